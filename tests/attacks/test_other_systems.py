"""Systems that lack what Linux has: without locks a lake can be read and not written, on macOS everything works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from affectlake.process.cores import available_cores
from affectlake.process.process_tree import ProcessTree
from tests.support.lakes import put

# what macOS does not have (os.waitid: before Python 3.13), and /proc
MACOS = """
import os, pathlib, sys
for name in ("sched_getaffinity", "posix_fallocate", "waitid"):
    if hasattr(os, name):
        delattr(os, name)
def hidden(method):
    def called(self, *rest, **options):
        if str(self).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(self))
        return method(self, *rest, **options)
    return called
for name in ("read_text", "readlink", "stat"):
    setattr(pathlib.Path, name, hidden(getattr(pathlib.Path, name)))
"""
# what Windows does not have either
WINDOWS = """
class NotThere:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotThere())
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
"""
READ = """
import affectlake
lake = affectlake.open(sys.argv[1])
print(lake.versions()[-1].name, lake.frame("SELECT count(*) AS n FROM stimuli@v1")["n"][0], len(lake.diff("v1", "v2")))
"""
COMMAND = "from affectlake.cli.main import main\nmain(sys.argv[1:])"
PUBLISH = """
from pathlib import Path
from affectlake.lake import repository
from affectlake.lake.preflight import refuse_unpublishable
root = Path(sys.argv[1])
with repository.writing(root, "a test"):
    refuse_unpublishable(root)
    print(repository.publish(root).name)
"""


def run(code: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("system", [MACOS, MACOS + WINDOWS], ids=["macos", "no locks"])
def test_a_lake_is_read(published: Path, system: str) -> None:
    done = run(system + READ, published)
    assert done.returncode == 0, done.stderr
    name, n_stimuli, n_changed = done.stdout.split()
    assert (name, n_stimuli) == ("v2", "12")
    assert int(n_changed) > 0
    for words in (("versions",), ("cite", "v1"), ("query", "SELECT count(*) FROM stimuli"), ("fsck", "--local")):
        done = run(system + COMMAND, *words, "--lake", published)
        assert done.returncode == 0, done.stderr


def test_without_locks_nothing_is_written(published: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (published / "storage").rglob("*") if path.is_file()}
    for words in (("checkout", "v1"), ("restore",), ("tag", "submitted"), ("gc",), ("publish",)):
        done = run(MACOS + WINDOWS + COMMAND, *words, "--lake", published)
        assert done.returncode == 1, done.stderr
        assert "cannot be locked on this system\n  wanted: Linux or macOS" in done.stderr
        assert "  to do: read the lake here, and write to it there; on Windows, in WSL" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run("import sys\n" + COMMAND, "tag", "--lake", published).stdout == ""


def test_on_macos_a_lake_is_written(published: Path) -> None:
    done = run(MACOS + COMMAND, "checkout", "v1", "--lake", published)
    assert done.returncode == 0, done.stderr
    assert (published / "storage/tables/stimuli").is_dir()
    assert run(MACOS + COMMAND, "checkout", "latest", "--lake", published).returncode == 0
    put(published, 14)
    done = run(MACOS + PUBLISH, published)
    assert done.stdout == "v3\n", done.stderr


def test_on_macos_a_second_writer_is_refused(published: Path) -> None:
    holding = """
from pathlib import Path
from affectlake.lake import repository
with repository.writing(Path(sys.argv[1]), "the first writer"):
    print("holds it", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", MACOS + holding, str(published)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds it\n"
        done = run(MACOS + PUBLISH, published)
        assert done.returncode == 1
        assert "is being written to" in done.stderr
        assert "the first writer" in done.stderr
        first.communicate("")
    assert first.returncode == 0


def test_a_full_disk_is_found_without_reserving_space(published: Path) -> None:
    full = MACOS + "import os\nos.fstatvfs = lambda _: type('Disk', (), {'f_bavail': 3, 'f_frsize': 4096})\n"
    done = run(full + PUBLISH, published)
    assert done.returncode == 1
    assert "there is not enough space in" in done.stderr


def test_cores_are_counted_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    assert available_cores() == os.cpu_count()


def test_a_child_is_stopped_without_waitid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.waitid")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    tree = ProcessTree(child.pid, "", child)
    assert (tree.has_ended, tree.exit_status) == (False, None)
    tree.stop(10)
    assert tree.has_ended
    assert tree.exit_status == -15
