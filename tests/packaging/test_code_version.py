"""The version says which code it is: by tag and commit, the same to setuptools-scm and to the running program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from affectlake.lake import repository as lakes
from affectlake.lake.store.versions import list_versions
from affectlake.process.code_version import UNKNOWN, UNTAGGED, version_of
from tests.packaging.conftest import ask, build, commit
from tests.support.lakes import put

PUBLISH = """
import sys
from pathlib import Path
from affectlake.lake import repository
print(repository.publish(Path(sys.argv[1])).code_version)
"""
# without site-packages: the metadata of an installed affectlake is out of sight
ALONE = "import sys; sys.path.insert(0, sys.argv[1]); import affectlake; print(affectlake.__version__)"


def both(repository: Path) -> str:
    """Return the version that the running code finds, seen to be the one that a build gets."""
    found = version_of(repository)
    assert found == ask("python", "setup.py", "--version", at=repository).splitlines()[-1]
    return found


def test_the_version_is_that_of_the_commit(repository: Path) -> None:
    first = ask("git", "rev-parse", "HEAD", at=repository)
    assert both(repository) == f"{UNTAGGED}.dev1+g{first[:10]}"
    ask("git", "tag", "v0.2.0", at=repository)
    ask("git", "tag", "lake/v7", at=repository)  # the repository may be a lake as well
    assert both(repository) == "0.2.0"
    (repository / "README.md").write_text("not code\n")
    assert both(repository) == "0.2.0"
    second = commit(repository)
    ask("git", "tag", "lake/v8", at=repository)
    assert both(repository) == f"0.2.1.dev1+g{second[:10]}"
    (repository / "flows/build.py").write_text("changed = True\n")
    assert both(repository) == f"0.2.1.dev1+g{second[:10]}.dirty"
    third = commit(repository)
    ask("git", "-c", "user.name=x", "-c", "user.email=x@localhost", "tag", "-m", "one", "v1.0.0rc1", at=repository)
    assert both(repository) == "1.0.0rc1"
    (repository / "schemas/new.py").write_text("new = True\n")
    assert both(repository) == f"1.0.0rc2.dev0+g{third[:10]}.dirty"


def test_an_archive_without_git_has_the_commit_in_it(repository: Path, tmp_path: Path) -> None:
    for number, expected in ((0, f"{UNTAGGED}.dev0+g"), (1, "0.2.1.dev1+g")):
        if number:
            ask("git", "tag", "v0.2.0", at=repository)
            (repository / "README.md").write_text("one more\n")
            commit(repository)
        found = ask("git", "rev-parse", "HEAD", at=repository)[:10]
        archive, folder = tmp_path / f"{number}.tar", tmp_path / str(number)
        ask("git", "archive", "--output", archive, "HEAD", at=repository)
        shutil.unpack_archive(archive, folder, filter="data")
        assert build(folder, "wheel", tmp_path).name == f"affectlake-{expected}{found}-py3-none-any.whl"


def test_files_without_git_say_that_nothing_is_known(repository: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository / ".git")
    assert ask("python", "setup.py", "--version", at=repository).splitlines()[-1] == UNKNOWN
    assert ask(sys.executable, "-S", "-c", ALONE, repository / "src", at=tmp_path) == UNKNOWN


def test_the_repository_of_somebody_else_is_not_asked(repository: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository / ".git")
    ask("git", "init", "--quiet", at=tmp_path)
    commit(tmp_path)
    assert version_of(repository) is None
    assert ask(sys.executable, "-S", "-c", ALONE, repository / "src", at=tmp_path) == UNKNOWN


def test_a_caller_with_a_repository_of_its_own_changes_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = version_of(repository)
    ask("git", "init", "--quiet", "other", at=tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert version_of(repository) == found


def test_a_version_of_a_lake_names_the_commit_that_made_it(repository: Path, lake: Path) -> None:
    """A checkout that was installed once and has moved on since, as an editable installation does."""
    expected = []
    for n_stimuli, change in ((12, None), (13, "commit"), (14, "edit")):
        module = repository / "src/affectlake/triplets.py"
        if change:
            module.write_text(f"{module.read_text()}\n# {change}\n")
        if change == "commit":
            commit(repository)
        put(lake, n_stimuli)
        made = ask(sys.executable, "-c", PUBLISH, lake, at=repository, PYTHONPATH=str(repository / "src"))
        expected.append(made)
        assert made == version_of(repository)
    assert [version.code_version for version in list_versions(lake)] == expected
    assert len(set(expected)) == 3
    assert [made.endswith(".dirty") for made in expected] == [False, False, True]
    assert lakes.publish(lake) is None
