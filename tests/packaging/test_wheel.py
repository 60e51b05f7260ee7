"""A wheel owns one name and works in a folder of any names; an sdist makes the same wheel."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml

from affectlake.experiment.jspsych import FILES
from affectlake.process.code_version import version_of
from tests.packaging.conftest import Built, ask, build, commit, environment

FOLDERS = ("src/affectlake", "flows", "pipelines", "schemas")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_a_wheel_has_every_file_of_the_package_and_no_other_name(built: Built, sources: Path) -> None:
    tracked = ask("git", "ls-files", *FOLDERS, at=sources).splitlines()
    package = {
        f"affectlake/{name.removeprefix('src/affectlake/')}" for name in tracked if not (sources / name).is_symlink()
    }
    assert len(package) > 250
    found = contents(built.wheel)
    jspsych = {f"affectlake/experiment/jspsych_files/{name}" for name in FILES}
    of_package = {name for name in found if ".dist-info/" not in name}
    assert of_package - jspsych == package
    if jspsych & of_package:  # where the registry or the cache had it
        assert jspsych <= of_package
        for name, (_, sha512) in FILES.items():
            assert hashlib.sha512(found[f"affectlake/experiment/jspsych_files/{name}"]).hexdigest() == sha512
    assert {name.partition("/")[0] for name in found if ".dist-info/" in name} == {
        f"affectlake-{version_of(sources)}.dist-info"
    }


def test_a_wheel_says_what_it_is(built: Built, sources: Path) -> None:
    (name,) = (name for name in contents(built.wheel) if name.endswith("/METADATA"))
    found = HeaderParser().parsestr(contents(built.wheel)[name].decode())
    assert found["Version"] == version_of(sources)
    assert found["Author"] == "The affectlake developers"
    assert found["License-Expression"] == "MIT"
    assert found["Requires-Python"] == "<3.14,>=3.11"
    assert {c.rpartition(" ")[2] for c in found.get_all("Classifier") if "Python :: 3." in c} == {
        "3.11",
        "3.12",
        "3.13",
    }
    assert not found.get_all("Project-URL")


def test_an_sdist_makes_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as file:
        names = {Path(name).parts[1] for name in file.getnames() if len(Path(name).parts) > 1}
        file.extractall(tmp_path, filter="data")
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "docs", "pyproject.toml", "src"} <= names
    assert not {"tests", "flows", "storage", ".github"} & names
    (unpacked,) = tmp_path.iterdir()
    again = build(unpacked, "wheel", tmp_path / "out")
    assert again.name == built.wheel.name
    ours, theirs = contents(built.wheel), contents(again)
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_without_a_registry_the_wheel_is_built_without_jspsych(repository: Path, tmp_path: Path) -> None:
    """The build says so; the installed command downloads it, or says how to get it."""
    module = repository / "src/affectlake/experiment/jspsych.py"
    module.write_text(module.read_text().replace("https://registry.npmjs.org", "http://127.0.0.1:9"))
    code = "import sys; from setuptools.build_meta import *; print(build_wheel(sys.argv[1]))"
    at = tmp_path / "out"
    at.mkdir()
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "AFFECTLAKE_JSPSYCH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, at], cwd=repository, env=env, capture_output=True, text=True, check=True
    )
    assert "built without jsPsych" in done.stderr
    assert "to do: " in done.stderr
    (wheel,) = at.iterdir()
    assert not [name for name in contents(wheel) if "jspsych_files" in name]


def test_a_build_with_changes_says_so(repository: Path, tmp_path: Path) -> None:
    (repository / "pipelines/new.py").write_text('"""A module that is in no commit."""\n')
    assert build(repository, "wheel", tmp_path / "wheel").name.endswith(".dirty-py3-none-any.whl")
    sdist = build(repository, "sdist", tmp_path / "sdist")
    assert sdist.name.endswith(".dirty.tar.gz")
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert build(unpacked, "wheel", tmp_path / "again").name.endswith(".dirty-py3-none-any.whl")


def test_the_commands_work_from_a_wheel(
    installed: Path, built: Built, sources: Path, published: Path, tmp_path: Path
) -> None:
    affectlake = installed / "affectlake"
    assert ask(affectlake, "--version", at=tmp_path) == f"affectlake, version {version_of(sources)}"
    where = ask(installed / "python", "-c", "import affectlake; print(affectlake.__file__)", at=tmp_path)
    assert Path(where).is_relative_to(installed.parent)
    ask(affectlake, "init", "new", "--study", "demo", at=tmp_path)
    stages = yaml.safe_load((tmp_path / "new/dvc.yaml").read_text())["stages"]
    name, command, *version = stages["ingest"]["cmd"].split()[1:]
    assert [name, command] == ["step", "ingest"]
    ask(affectlake, name, command, *version, at=tmp_path / "new")
    assert (tmp_path / "new/storage/tables/stimuli/part-00000.parquet").exists()
    sql = "SELECT count(*) AS n FROM stimuli"
    assert ask(affectlake, "query", sql, "--lake", published, "--format", "csv", at=tmp_path) == "n\n13"
    assert ask(affectlake, "query", sql, "--lake", published, "--at", "v1", "--format", "csv", at=tmp_path) == "n\n12"


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The folder of a notebook, which Python looks in first."""
    folder = tmp_path / "notebook"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "names",
    [("schemas.py", "flows.py", "pipelines.py"), ("schemas/__init__.py", "flows/__init__.py", "pipelines/__init__.py")],
)
def test_modules_of_any_name_may_lie_beside_a_notebook(
    installed: Path, published: Path, beside: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (beside / name).parent.mkdir(exist_ok=True)
        (beside / name).write_text("WHOSE = 'the user'\n")
    lake = f"import affectlake; print(affectlake.open({str(published)!r}).table('choices', at='v1').collect().height)"
    theirs = "import schemas, flows, pipelines; print(schemas.WHOSE, flows.WHOSE, pipelines.WHOSE)"
    for code in (f"{lake}; {theirs}", f"{theirs}; {lake}"):  # -c looks in the working folder first, as a notebook does
        said = ask(installed / "python", "-c", code, at=beside).splitlines()
        assert sorted(said)[1] == "the user the user the user"
        assert int(sorted(said)[0]) > 0
    version = ask(installed / "affectlake", "--version", at=beside, PYTHONPATH=".")
    assert version.startswith("affectlake, version ")
    sql = ("query", "SELECT count(*) AS n FROM stimuli", "--lake", published, "--format", "csv")
    assert ask(installed / "python", "-m", "affectlake", *sql, at=beside, PYTHONPATH=".") == "n\n13"


def test_uninstalling_leaves_nothing(built: Built, tmp_path: Path) -> None:
    commands = environment(tmp_path / "venv", built.wheel)
    compiled = "from affectlake.judge.vectors.similarity_kernels import largest; largest(0.1, 0.2, 0.3)"
    ask(commands / "python", "-c", compiled, at=tmp_path, HOME=str(tmp_path / "home"), XDG_CACHE_HOME="")
    assert list((tmp_path / "home").rglob("*.nbi"))
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    assert (packages / "affectlake").is_dir()
    ask("pip", "--python", commands / "python", "uninstall", "--yes", "--quiet", "affectlake", at=tmp_path)
    assert [path.name for path in packages.iterdir()] == ["locked.pth"]


def test_a_clone_without_symbolic_links_is_refused_with_the_remedy(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    ask("git", "clone", "--quiet", "--config", "core.symlinks=false", repository, clone, at=tmp_path)
    said = ask("python", "setup.py", "--version", at=clone, fails=True)
    assert "src/affectlake/flows is not a symbolic link" in said
    remedy = said.partition("to do: ")[2].splitlines()[0]
    ask("sh", "-c", remedy, at=clone)
    assert ask("python", "setup.py", "--version", at=clone).endswith(commit_of(clone)[:10])


def commit_of(repository: Path) -> str:
    return ask("git", "rev-parse", "HEAD", at=repository)


def test_a_link_to_the_repository_in_a_clone_elsewhere_works(repository: Path, tmp_path: Path) -> None:
    """The links are relative: they lead into the clone that they are in."""
    clone = tmp_path / "elsewhere" / "clone"
    ask("git", "clone", "--quiet", repository, clone, at=tmp_path)
    (clone / "pipelines/marker.py").write_text('"""Only here."""\n')
    code = "import affectlake.pipelines.marker as m; print(m.__file__)"
    assert Path(ask("python", "-c", code, at=tmp_path, PYTHONPATH=str(clone / "src"))).is_relative_to(clone)
    commit(clone)
