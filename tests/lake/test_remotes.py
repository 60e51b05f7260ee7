"""Remotes for real: OpenSSH on loopback and an S3-compatible server. Travel, interruption, lies, and their repair."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from affectlake.errors import LakeError, UsageError, VersionError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check, users
from affectlake.lake.query import query
from affectlake.lake.store.remotes import open_remote
from affectlake.lake.store.versions import Manifest, cache_folder, cached_object, list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.support.lakes import put
from tests.support.preloaded import REAL
from tests.support.stores import S3Server, S3Store, SSHServer, SSHStore, Store


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    server = SSHServer(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(params=["ssh", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "ssh":
        return SSHStore(request.getfixturevalue("ssh_server"), tmp_path / "files")
    return S3Store(request.getfixturevalue("s3_server"), f"bucket-{tmp_path.name.strip('_').replace('_', '-')}")


def git(root: Path, *arguments: str | Path) -> str:
    done = subprocess.run(["git", *map(str, arguments)], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def three(lakes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three versions, the third large enough to be cut off in the middle of a file."""
    lake = shutil.copytree(lakes["published"], tmp_path_factory.mktemp("three") / "lake")
    put(lake, 60)
    repository.publish(lake)
    return lake


@pytest.fixture
def shared(three: Path, store: Store, tmp_path: Path) -> Path:
    """The lake of three versions, with the store as its remote and an origin."""
    lake = shutil.copytree(three, tmp_path / "lake")
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(lake, "remote", "add", "origin", tmp_path / "origin.git")
    store.configure(lake)
    return lake


@pytest.fixture
def elsewhere(shared: Path, store: Store, tmp_path: Path) -> Callable[[], Path]:
    """Clone the lake to another place, as a colleague does."""

    def clone() -> Path:
        other = tmp_path / "other"
        git(tmp_path, "clone", "--quiet", "--no-tags", tmp_path / "origin.git", other)
        store.configure(other)
        return other

    return clone


def affectlake(*arguments: str | Path, ok: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def kill_midway(store: Store, command: str, lake: Path) -> None:
    """Run ``affectlake push`` or ``pull`` until the store stops answering in the middle, then kill it."""
    with store.held("push" if command == "push" else "pull") as wait_until_held:
        process = subprocess.Popen(
            [REAL, command, "--lake", lake], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_held()
        finally:
            process.kill()
            assert process.wait(30) == -9


def test_a_lake_travels_whole(shared: Path, elsewhere: Callable[[], Path], store: Store) -> None:
    assert "pushed v1, v2, v3" in affectlake("push", "--lake", shared).stderr
    assert store.names() == set(users(shared, list_versions(shared)))
    other = elsewhere()
    assert "new versions: v1, v2, v3" in affectlake("pull", "--lake", other).stderr
    assert list_versions(other) == list_versions(shared)
    assert cache_folder(other).stat().st_mode & 0o077 == 0
    for name in ("v1", "v3"):
        affectlake("checkout", name, "--lake", other)
        for file in (f for o in (Output("stimuli"), Output("choices", "tiny")) for f in Manifest(other, "").files(o)):
            assert (other / file.path).read_bytes() == cached_object(shared, file.md5).read_bytes()
    n_stimuli = affectlake("query", "SELECT count(*) AS n FROM stimuli@v1", "--format", "csv", "--lake", other).stdout
    assert n_stimuli == "n\n12\n"
    assert "every file is as it was published" in affectlake("fsck", "--lake", other).stderr


def test_plain_dvc_reads_what_was_pushed(shared: Path, elsewhere: Callable[[], Path]) -> None:
    push(shared, list_versions(shared))
    other = elsewhere()
    subprocess.run(["dvc", "pull", "--quiet"], cwd=other, check=True, capture_output=True)
    assert (other / "storage/tables/stimuli/part-00000.parquet").exists()


def test_a_killed_push_goes_on_where_it_stopped(shared: Path, store: Store, elsewhere: Callable[[], Path]) -> None:
    kill_midway(store, "push", shared)
    wanted = users(shared, list_versions(shared))
    arrived = store.names()
    assert arrived < set(wanted)
    assert all(store.read(md5) == cached_object(shared, md5).read_bytes() for md5 in arrived), "a part has a name"
    assert git(shared, "ls-remote", "origin") == "", "a version was announced before its files were there"
    sent = push(shared, list_versions(shared))
    assert sent.n_files == len(wanted) - len(arrived)
    pull(elsewhere())


def test_a_killed_pull_goes_on_where_it_stopped(shared: Path, store: Store, elsewhere: Callable[[], Path]) -> None:
    push(shared, list_versions(shared))
    other = elsewhere()
    kill_midway(store, "pull", other)
    wanted = users(shared, list_versions(shared))
    came = {md5 for md5 in wanted if cached_object(other, md5).exists()}
    assert came < set(wanted)
    assert all(cached_object(other, md5).read_bytes() == cached_object(shared, md5).read_bytes() for md5 in came)
    assert list_versions(other) == [], "a version was taken before its files had come"
    assert pull(other) == (len(wanted) - len(came), ["v1", "v2", "v3"])
    assert check(other, *list_versions(other), repair=False) == []


LIES: dict[str, Callable[[bytes], bytes | None]] = {
    "wrong bytes": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "cut short": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "missing": lambda _: None,
}


def lies() -> Iterator[object]:
    """Every lie of every store; in `make test` every other one."""
    for row, store in enumerate(("ssh", "s3")):
        for column, lie in enumerate(LIES):
            marks = [pytest.mark.soak] if (row + column) % 2 else []
            yield pytest.param(store, lie, id=f"{store}-{lie}", marks=marks)


@pytest.mark.parametrize(("store", "lie"), list(lies()), indirect=["store"])
def test_a_lie_is_named_and_mended(shared: Path, store: Store, elsewhere: Callable[[], Path], lie: str) -> None:
    push(shared, list_versions(shared))
    file = Manifest(shared, resolve(shared, "v3").commit).files(Output("triplets"))[0]
    store.write(file.md5, LIES[lie](store.read(file.md5)))
    other = elsewhere()
    with pytest.raises(VersionError, match=f"v3 {file.path}: (damaged|missing|zero-filled)"):
        pull(other)
    assert list_versions(other) == []
    assert not cached_object(other, file.md5).exists()
    (finding,) = check(shared, *list_versions(shared), repair=False)
    assert (finding.path, finding.where, finding.repaired) == (str(file.path), "remote", False)
    done = affectlake("fsck", "--lake", shared, ok=1)
    assert f"{file.path}: {finding.state} in the remote" in done.stdout
    affectlake("fsck", "--repair", "--lake", shared)
    assert store.read(file.md5) == file.cached.read_bytes()
    assert pull(other).versions == ["v1", "v2", "v3"]


def test_what_is_damaged_here_comes_back_from_the_remote(shared: Path) -> None:
    push(shared, list_versions(shared))
    manifest = Manifest(shared, resolve(shared, "v2").commit)
    file, listing = manifest.files(Output("stimuli"))[0], cached_object(shared, manifest.digests[Output("triplets")])
    whole = file.cached.read_bytes()
    for path in (file.cached, listing):
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    with pytest.raises(VersionError):
        checkout(shared, resolve(shared, "v2"))
    findings = check(shared, *list_versions(shared), repair=True)
    assert {f.path for f in findings} == {"storage/tables/triplets", str(file.path)}
    assert all(f.repaired for f in findings)
    assert file.cached.read_bytes() == whole
    assert check(shared, *list_versions(shared), repair=False) == []


def test_an_object_cut_short_is_sent_again(shared: Path, store: Store) -> None:
    first = resolve(shared, "v1")
    push(shared, [first])
    file = Manifest(shared, first.commit).files(Output("stimuli"))[0]
    store.write(file.md5, file.cached.read_bytes()[:10])
    assert push(shared, [first]).n_files == 1
    assert store.read(file.md5) == file.cached.read_bytes()


def test_lost_in_both_places_says_what_to_do(shared: Path, store: Store) -> None:
    push(shared, list_versions(shared))
    file = Manifest(shared, resolve(shared, "v1").commit).files(Output("stimuli"))[0]
    store.write(file.md5, None)
    file.cached.unlink()
    done = affectlake("fsck", "v1", "--repair", "--lake", shared, ok=1)
    assert done.stdout.count("not repaired") == 2
    assert "affectlake run" in done.stderr
    with pytest.raises(VersionError, match=f"{file.path}: missing"):
        pull(shared)
    with pytest.raises(VersionError, match="affectlake pull"):
        query(shared, "SELECT 1 FROM stimuli", "v1")
    assert query(shared, "SELECT count(*) FROM stimuli", "v2").fetchall() == [(13,)]


def test_only_what_was_pushed_is_missed_in_the_remote(shared: Path, store: Store) -> None:
    push(shared, [resolve(shared, "v1")])
    assert check(shared, *list_versions(shared), repair=False) == []
    md5 = Manifest(shared, resolve(shared, "v1").commit).digests[Output("stimuli")]
    store.write(md5, None)
    (finding,) = check(shared, *list_versions(shared), repair=True)
    assert (finding.version, finding.state, finding.repaired) == ("v1", "missing", True)


@pytest.mark.parametrize("store", ["ssh"], indirect=True)
def test_leftovers_of_a_killed_push_are_swept_after_a_day(shared: Path, store: SSHStore) -> None:
    left = [store.folder / "incoming" / f"{md5 * 32}-0123abcd" for md5 in "01"]
    left[0].parent.mkdir(parents=True)
    for path in left:
        path.write_bytes(b"PAR1")
    old = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(left[0], (old, old))
    push(shared, list_versions(shared))
    assert not left[0].exists()
    assert left[1].exists(), "it may be another's who is pushing now"


@pytest.mark.parametrize("store", ["ssh"], indirect=True)
def test_a_server_that_is_not_there_is_named(shared: Path, store: SSHStore) -> None:
    config = (shared / ".dvc/config").read_text().replace(f":{store.server.port}", ":1")
    (shared / ".dvc/config").write_text(config)
    with pytest.raises(LakeError, match=r"the remote storage \(ssh://.*:1/.*cannot be reached"):
        push(shared, list_versions(shared))
    done = affectlake("fsck", "--local", "--lake", shared)
    assert "every file is as it was published" in done.stderr


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_an_unknown_remote_offers_the_nearest(shared: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'storage'"):
        open_remote(shared, "storag")
