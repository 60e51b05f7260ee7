"""The package as a user gets it: a repository with one commit, the files built from it, and an installed wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.lakes import ROOT

NOT_INHERITED = ("PYTHONPATH", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def ask(*command: str | Path, at: Path, fails: bool = False, **variables: str) -> str:
    """Run a command in the folder `at` and return what it printed; of one that fails, what it said."""
    env = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED} | variables
    done = subprocess.run(list(map(str, command)), cwd=at, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return (done.stdout + done.stderr if fails else done.stdout).strip()


def commit(repository: Path) -> str:
    """Commit everything and return the hash."""
    ask("git", "add", "--all", at=repository)
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    ask("git", *who, "commit", "--quiet", "--message", "as it is", at=repository)
    return ask("git", "rev-parse", "HEAD", at=repository)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository without tags and with one commit: the files of this one as they are now. Copy it to change it."""
    folder = tmp_path_factory.mktemp("sources") / "affectlake"
    listed = ask("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", at=ROOT)
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    ask("git", "init", "--quiet", at=folder)
    commit(folder)
    return folder


@pytest.fixture
def repository(sources: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(sources, tmp_path / "affectlake", symlinks=True)


class Built(NamedTuple):
    """The files that a release has."""

    wheel: Path
    sdist: Path


def build(repository: Path, what: str, out: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` with the tools of the environment and return the file."""
    code = "import sys; from setuptools.build_meta import *; print(globals()[f'build_{sys.argv[1]}'](sys.argv[2]))"
    out.mkdir(exist_ok=True)
    return out / ask(sys.executable, "-c", code, what, out, at=repository).splitlines()[-1]


@pytest.fixture(scope="session")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the sdist of the repository."""
    out = tmp_path_factory.mktemp("built")
    repository = shutil.copytree(sources, out / "affectlake", symlinks=True)
    return Built(build(repository, "wheel", out), build(repository, "sdist", out))


def environment(folder: Path, wheel: Path) -> Path:
    """Make an environment that has the wheel, sees the locked packages, and nothing of this repository."""
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # a line of a .pth file adds the folder; the .pth files in there, an editable installation's too, are not read
    (packages / "locked.pth").write_text("".join(f"{path}\n" for path in locked_packages()))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin/python")
    ask(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, at=folder)
    return folder / "bin"


def locked_packages() -> list[str]:
    """Return the folders that the environment of these tests has its packages in."""
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return sorted(own | {path for path in sys.path if Path(path).name == "site-packages"})


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment in which the wheel is installed."""
    return environment(tmp_path_factory.mktemp("environment") / "venv", built.wheel)
