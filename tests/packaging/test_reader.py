"""The wheel without extras reads lakes, and names the extra that each other command needs."""

from __future__ import annotations

import tarfile
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import grimp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from affectlake.cli.main import EARLIER_NAMES, NEEDS, cli
from affectlake.extras import EXTRAS
from tests.packaging.conftest import Built, ask
from tests.packaging.reader import reader, required
from tests.support.lakes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = ("torch", "prefect", "mlflow", "great_expectations", "numba", "scipy", "sklearn", "dvc", "pyarrow", "pandas")
READS = {
    "versions", "tag", "query", "diff", "checkout", "restore", "cite", "fsck", "gc", "report", "figure", "fetch",
    "archive", "open", "views", "completion",
}  # fmt: skip
LARGEST_BYTES = 500e6

# a value of every kind that the formats treat in their own way
VALUES = """
    SELECT 1 a, 2 a, sum(stimulus_index) h, max(map{'x': 1}) m, [1.5, 2.0] l, {'k': 1.5, 'n': [1]} s, 'b'::blob b,
           true t, null n, 'inf'::double f, 1e-7::double g, date '2020-01-02' d, timestamp '2020-01-02 03:04:05' ts,
           interval 3 day iv, 'é' u, 1.50::decimal(9,2) de, '"q,"' q
    FROM stimuli
    UNION ALL SELECT 1, 2, 3, null, null, null, null, null, null, 3.25, null, null, null, null, null, null, null
"""

PYTHON = """
import sys
import affectlake
lake = affectlake.open(sys.argv[1])
assert [one.name for one in lake.versions()] == ["v1", "v2", "v3", "v4", "v5"]
assert lake.frame("SELECT count(*) AS n FROM stimuli", at="v1")["n"].to_list() == [30]
assert lake.table("choices", at="v1").collect().height > 0
assert lake.describe("choices")[0].column == "agent"
assert lake.diff("v1", "v2")[0].added > 0
assert {table.table for table in lake.tables()} >= {"choices", "betas"}
assert lake.rsm("human-category").shape == (30, 30)
assert lake.stimulus(0).captions
affectlake.figures.heatmap(lake, "human-category").savefig("heatmap.pdf")
drawn = 0
for name in affectlake.figures.names():
    try:
        affectlake.figures.draw(name, lake, "human-category" if name in OWN else "")
        drawn += 1
    except affectlake.errors.FigureError:
        pass
print(drawn)
try:
    lake.patterns("synthetic-1")
except affectlake.errors.ExtraError as error:
    print(error)
"""


@pytest.fixture(scope="session")
def light(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment in which the wheel is installed without extras."""
    return reader(tmp_path_factory.mktemp("reader") / "venv", built.wheel)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A lake with every table, made by older code."""
    with tarfile.open(ROOT / "tests/fixtures/lake_b629e22.tar.xz") as archive:
        archive.extractall(tmp_path / "old", filter="tar")
    return tmp_path / "old/lake"


def test_it_has_no_heavy_package_and_is_small(built: Built, light: Path, tmp_path: Path) -> None:
    for name in HEAVY:
        said = ask(light / "python", "-c", f"import {name}", at=tmp_path, fails=True)
        assert f"ModuleNotFoundError: No module named '{name}'" in said
    files = [file.locate() for one in required(built.wheel).values() for file in one.files or ()]
    n_bytes = sum(Path(str(file)).stat().st_size for file in files if Path(str(file)).exists())
    assert 100e6 < n_bytes < LARGEST_BYTES


def test_commands_read_a_lake(light: Path, old: Path, tmp_path: Path) -> None:
    def say(*words: str | Path) -> str:
        return ask(light / "affectlake", *words, "--lake", old, at=tmp_path)

    assert "collect" in ask(light / "affectlake", "--help", at=tmp_path)
    assert say("versions").splitlines()[0].startswith("v5 ")
    assert say("query", "SELECT count(*) AS n FROM stimuli", "--at", "v1", "--format", "csv") == "n\n30"
    assert say("diff", "v1", "v2") == "responses/tiny: 380 added, 0 removed, 0 changed"
    assert len(say("diff", "v1", "v2", "--rows").splitlines()) == 380
    assert "v1" in say("cite", "v1")
    say("fsck", "--local")
    say("gc")
    say("tag", "submitted", "v2")
    say("checkout", "submitted")
    assert (old / "storage/tables/stimuli/part-00000.parquet").exists()
    say("restore")
    page = Path(say("report"))
    assert "human-category" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet", "arrow"])
def test_rows_are_written_as_with_pyarrow(
    light: Path, installed: Path, published: Path, tmp_path: Path, form: str
) -> None:
    ours, theirs = tmp_path / f"light.{form}", tmp_path / f"full.{form}"
    for commands, file in ((light, ours), (installed, theirs)):
        ask(commands / "affectlake", "query", VALUES, "--lake", published, "--out", file, at=tmp_path)
    if form == "parquet":
        assert pq.read_table(ours).to_pylist() == pq.read_table(theirs).to_pylist()
    elif form == "arrow":
        assert pa.ipc.open_stream(ours).read_all().to_pylist() == pa.ipc.open_stream(theirs).read_all().to_pylist()
    else:
        assert ours.read_bytes() == theirs.read_bytes()
        assert len(ours.read_bytes()) > 100


def test_python_reads_a_lake_and_draws_figures(light: Path, old: Path, tmp_path: Path) -> None:
    from affectlake.report.figures.catalogue import FIGURES

    code = f"OWN = {[one.name for one in FIGURES if one.section == 'agent']}\n{PYTHON}"
    drawn, *said = ask(light / "python", "-c", code, old, at=tmp_path).splitlines()
    assert int(drawn) >= 18
    assert (tmp_path / "heatmap.pdf").read_bytes().startswith(b"%PDF")
    assert said == [
        'lake.patterns needs the extra "study"',
        "  found: pyarrow is not installed",
        "  to do: pip install 'affectlake[study]'",
    ]


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_other_commands_name_the_extra_that_they_need(light: Path, published: Path, name: str) -> None:
    before = ask("git", "status", "--porcelain", "--ignored", at=published)
    said = ask(light / "affectlake", name, at=published, fails=True).splitlines()
    assert said[0] == f'affectlake: affectlake {name} needs the extra "{NEEDS[name]}"'
    assert said[1].startswith("  found: ")
    assert said[1].endswith((" is not installed", " are not installed"))
    assert said[2:] == [f"  to do: pip install 'affectlake[{NEEDS[name]}]'"]
    assert ask("git", "status", "--porcelain", "--ignored", at=published) == before
    assert f"affectlake {name}" in ask(light / "affectlake", name, "--help", at=published)


def test_a_remote_is_refused_with_its_extra(light: Path, published: Path) -> None:
    """fsck reads the cache without extras; only a remote needs one."""
    said = ask(light / "affectlake", "fsck", at=published, fails=True)
    assert 'affectlake: affectlake fsck needs the extra "remote"' in said


def test_every_command_reads_or_names_an_extra() -> None:
    context = click.Context(cli)
    assert set(cli.list_commands(context)) == READS | set(NEEDS)
    assert not set(EARLIER_NAMES) & set(NEEDS)


def test_the_extras_are_those_of_the_project() -> None:
    """Every package that the code imports comes with the wheel or with an extra that its message names."""

    def names(lines: list[str]) -> set[str]:
        return {canonicalize_name(Requirement(line).name) for line in lines}

    distributions = packages_distributions()
    listed = PROJECT["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        for package in packages:
            known = {canonicalize_name(name) for name in distributions.get(package, [package.replace("_", "-")])}
            assert known & names(listed[extra]), f"{package} is not in the extra {extra}"
    light, optional = names(PROJECT["dependencies"]), {one for packages in EXTRAS.values() for one in packages}
    graph = grimp.build_graph("affectlake", include_external_packages=True)
    comes_along = {"dvc_objects", "voluptuous", "pydantic_core", "cortex", "grimp"}
    for package in sorted(graph.modules):
        if package.partition(".")[0] == "affectlake" or package not in distributions or package in comes_along:
            continue
        known = {canonicalize_name(name) for name in distributions[package]}
        assert known & light or package in optional, f"{package} is in no list of pyproject.toml"
    assert names(listed["all"]) == {"affectlake"}
    (everything,) = map(Requirement, listed["all"])
    assert everything.extras | {"remote", "all", "dev"} == set(listed)
