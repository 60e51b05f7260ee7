"""Every place that names the versions of Python names the same, and every benchmark is one that make runs."""

from __future__ import annotations

import re
import subprocess
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.support.lakes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSIONS = ["3.11", "3.12", "3.13"]


def test_one_list_of_versions() -> None:
    requires = SpecifierSet(PROJECT["project"]["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in requires] == VERSIONS
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert named == VERSIONS
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == VERSIONS
    makefile = (ROOT / "Makefile").read_text()
    (candidates,) = re.findall(r"for p in ([^;]*);", makefile)
    assert candidates.split() == [*(f"python{version}" for version in reversed(VERSIONS)), "python3"]
    assert "(3, 11) <= sys.version_info < (3, 14)" in makefile


def test_the_lock_has_every_requirement_for_every_version() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(one.name): one for one in map(Requirement, lines)}
    assert len(pins) == len(lines)
    extras = PROJECT["project"]["optional-dependencies"]
    optional = [line for name in sorted(extras.keys() - {"torchvision"}) for line in extras[name]]  # not in the lock
    for line in (*PROJECT["project"]["dependencies"], *optional, *PROJECT["build-system"]["requires"]):
        requirement = Requirement(line)
        if requirement.name == "affectlake":
            continue  # an extra that has the packages of another
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = pin.specifier
        assert version.operator == "=="
        assert version.version in requirement.specifier, line
        for python in VERSIONS:
            assert pin.marker is None or pin.marker.evaluate({"python_version": python}), line


def test_make_takes_a_python_that_runs() -> None:
    """Not the name of one on the path, behind which there may be nothing."""
    said = subprocess.run(
        ["make", "--dry-run", "VENV=/nowhere", "/nowhere/.installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (chosen,) = re.findall(r"\|\| (\S+) -m venv /nowhere", said)
    found = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=True).stdout
    assert found.split()[1].rpartition(".")[0] in VERSIONS


def test_make_runs_every_benchmark() -> None:
    makefile = (ROOT / "Makefile").read_text()
    looped = " ".join(re.findall(r"for (?:name|file) in ([a-z_ ]+);", makefile))
    run = {*looped.split(), *re.findall(r"python benchmarks/([a-z_]+)\.py", makefile)}
    helpers = {"peers"}  # the process that foreign.py starts for the published code
    assert run == {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - helpers


def test_databases_are_closed() -> None:
    """Since Python 3.13 one that is left to the garbage collector is warned of, in whatever runs at that moment."""
    opened = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("src", "flows", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "sqlite3.connect(" in line and "closing(sqlite3.connect(" not in line
    }
    assert {line for line in opened if "self._database = " not in line} == set()
    assert len(opened) == 2  # the journal's and the session store's, which they close
