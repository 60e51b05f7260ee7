"""What is remembered of hashed files: each is hashed once, a changed one again, and nothing false is believed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from affectlake.errors import VersionError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import md5_of
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import open_lake
from affectlake.lake.query import query
from affectlake.lake.store import known_hashes
from affectlake.lake.store.known_hashes import known_md5s
from affectlake.lake.store.versions import Manifest, resolve

SQL = "SELECT count(*) FROM stimuli, choices@v1"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed from now on."""
    names: list[str] = []
    real = known_hashes._hash
    monkeypatch.setattr(known_hashes, "_hash", lambda path: names.append(path.name) or real(path))
    return names


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be remembered however young they are."""
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", -1)


def part(lake: Path, output: str, at: str) -> Path:
    (file,) = Manifest(lake, resolve(lake, at).commit).files(Output.named(output))
    return file.cached


@pytest.mark.usefixtures("settled")
def test_only_what_is_asked_for_is_hashed_and_once(published: Path, hashed: list[str]) -> None:
    query(published, SQL)
    assert sorted(hashed) == sorted([part(published, "stimuli", "v2").name, part(published, "choices/tiny", "v1").name])
    hashed.clear()
    query(published, SQL)
    open_lake(published).table("stimuli")
    open_lake(published).table("choices", "v1")
    assert hashed == []
    open_lake(published).table("triplets", "v1")
    assert hashed == [part(published, "triplets", "v1").name]
    status = subprocess.run(["git", "status", "--porcelain"], cwd=published, capture_output=True, check=True)
    assert status.stdout == b""


def touch(path: Path) -> None:
    path.touch()


def write_again(path: Path) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content)


def replace(path: Path) -> None:
    shutil.copy2(path, path.with_name("aside"))
    path.with_name("aside").replace(path)


def keep_time(path: Path) -> None:
    status = path.stat()
    write_again(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [touch, write_again, replace, keep_time])
def test_a_file_that_may_have_changed_is_hashed_again(
    published: Path, hashed: list[str], change: Callable[[Path], None]
) -> None:
    path = part(published, "stimuli", "v2")
    query(published, "FROM stimuli")
    hashed.clear()
    change(path)
    query(published, "FROM stimuli")
    assert hashed == [path.name]
    query(published, "FROM stimuli")
    assert hashed == [path.name]


def test_a_file_too_young_to_tell_a_change_by_its_time_is_not_remembered(
    published: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (published / layout.KNOWN_HASHES).unlink(missing_ok=True)  # a slow publication may have remembered older files
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 3600 * 10**9)
    for n in (1, 2):
        query(published, "FROM stimuli")
        assert len(hashed) == n
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 50_000_000)
    monkeypatch.setattr(known_hashes, "_hash", lambda path: known_hashes._Hashed(b"", md5_of(path)))  # while it changes
    query(published, "FROM stimuli")
    assert not (published / layout.KNOWN_HASHES).exists()


@pytest.mark.usefixtures("settled")
def test_a_damaged_memory_is_forgotten(published: Path, hashed: list[str]) -> None:
    query(published, SQL)
    place = published / layout.KNOWN_HASHES
    whole = place.read_bytes()
    wrong = whole.replace(part(published, "stimuli", "v2").parent.name.encode(), b"zz")
    for garbage in (
        b"",
        b"\0" * 5000,
        b"\xff\n" * 99,
        whole[: len(whole) // 2],
        wrong,
        whole.replace(b" ", b""),
        b" \n ",
    ):
        place.write_bytes(garbage)
        hashed.clear()
        assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(13,)]
        query(published, SQL)
        hashed.clear()
        query(published, SQL)
        assert hashed == [], garbage  # what was written after garbage is found again
    for i in range(len(whole)):
        place.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        paths = [part_ for part_ in (published / ".dvc/cache/files/md5").glob("??/*") if part_.suffix != ".dir"]
        assert known_md5s(published, paths) == [path.parent.name + path.name for path in paths]
    place.unlink()
    place.mkdir()
    assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(13,)]


@pytest.mark.usefixtures("settled")
def test_a_memory_that_says_a_damaged_file_is_whole_is_not_believed_for_another_file(published: Path) -> None:
    path = part(published, "stimuli", "v2")
    query(published, "FROM stimuli")
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    for _ in range(2):  # and that it is damaged is remembered as well
        with pytest.raises(VersionError, match="is damaged"):
            query(published, "FROM stimuli")


@pytest.mark.usefixtures("settled")
def test_the_memory_is_bounded(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_hashes, "_LARGEST", 1000)
    for _ in range(30):
        part(published, "stimuli", "v2").touch()
        query(published, "FROM stimuli")
    assert (published / layout.KNOWN_HASHES).stat().st_size < 1400


def test_a_lake_that_cannot_be_written_to_is_read(published: Path, hashed: list[str]) -> None:
    (published / layout.SCRATCH).parent.mkdir(exist_ok=True)
    shutil.rmtree(published / layout.SCRATCH, ignore_errors=True)
    (published / layout.SCRATCH).write_bytes(b"")  # no folder can be made here, whoever asks
    for n in (1, 2):
        assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(13,)]
        assert len(hashed) == n


READER = """
import sys
from pathlib import Path
from affectlake.lake.store import known_hashes
known_hashes._SETTLED_NS = -1
lake, paths = Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]]
print("ready", flush=True)
sys.stdin.readline()
for n in range(200):
    (lake / str(n % 7)).touch()
    paths[n % len(paths)].touch()
    found = known_hashes.known_md5s(lake, paths)
    assert found == [path.parent.name + path.name for path in paths]
"""


def test_several_processes_remember_at_once(published: Path, hashed: list[str]) -> None:
    manifest = Manifest(published, resolve(published, "v2").commit)
    paths = [file.cached for output in manifest.digests for file in manifest.files(output)]
    words = [sys.executable, "-c", READER, str(published), *map(str, paths)]
    readers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    for reader in readers:
        _, words_of_error = reader.communicate()
        assert reader.returncode == 0, words_of_error
    known_md5s(published, paths)
    hashed.clear()
    assert known_md5s(published, paths) == [path.parent.name + path.name for path in paths]
    assert hashed == []
    for line in (published / layout.KNOWN_HASHES).read_bytes().splitlines():
        mark, _, rest = line.partition(b" ")
        assert not line or known_hashes._intact(mark, rest)
