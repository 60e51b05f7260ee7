"""The documents: links and named files exist, the site has every page, the Python reference every public module."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

import affectlake
from tests.support.lakes import ROOT

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "storage/README.md"]
# packages of arrays in, arrays out: each module is in the reference, or is named here because only the package uses it
INTERNAL = {
    "affectlake.brain.encoding.band_choices",
    "affectlake.brain.encoding.band_gains",
    "affectlake.brain.encoding.band_problem",
    "affectlake.brain.clusters.kernels",
    "affectlake.brain.encoding.gram",
    "affectlake.brain.encoding.kernels",
    "affectlake.brain.encoding.rows",
    "affectlake.brain.encoding.solver",
    "affectlake.brain.generalisation.kernels",
    "affectlake.brain.recordings.bdata",
    "affectlake.brain.recordings.fetching",
    "affectlake.brain.recordings.files",
    "affectlake.brain.recordings.images",
    "affectlake.brain.recordings.synthetic",
    "affectlake.brain.searchlight.gpu",
    "affectlake.brain.searchlight.kernels",
    "affectlake.spose.checkpoint",
    "affectlake.spose.cpu",
    "affectlake.spose.curve",
    "affectlake.spose.gpu",
    "affectlake.spose.kernels",
    "affectlake.spose.state",
    "affectlake.spose.vice.kernels",
}


def _anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path) if path else page
            if not found.exists() or (
                anchor and found.suffix == ".md" and anchor not in _anchors(found.read_text(encoding="utf-8"))
            ):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


NAMED_FILE = re.compile(r"(?<![\w./-])(?:tests|src|pipelines|flows|schemas|benchmarks|docs)/[\w./*-]*\w[\w/*]*")
NAMED_TEST = re.compile(r"(?<![\w./-])test_\w+\.py")
NAMED_MODULE = re.compile(r"(?<![\w./])affectlake(?:\.[a-z_]\w*)+")
EXAMPLES = {"schemas/tables/NAME.yaml"}
ARROWS = "arrows point one way"


def test_every_file_named_in_a_document_exists() -> None:
    tests = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # names files as they were
            continue
        text = page.read_text(encoding="utf-8")
        paths = set(NAMED_FILE.findall(text)) - EXAMPLES
        missing += [f"{page.name}: {path}" for path in paths if not any(ROOT.glob(path))]
        missing += [f"{page.name}: {name}" for name in set(NAMED_TEST.findall(text)) - tests]
    assert not missing


def test_every_module_named_in_a_document_exists() -> None:
    missing = [
        f"{page.name}: {name}"
        for page in PAGES
        for name in set(NAMED_MODULE.findall(page.read_text(encoding="utf-8")))
        if not _exists(name)
    ]
    assert not missing


def _exists(name: str) -> bool:
    """Return whether `name` is a package, a module, or defined at the top level of one."""
    if name.startswith("affectlake.figures."):  # a figure is found by its name in the catalogue
        return hasattr(affectlake.figures, name.rpartition(".")[2])
    place, rest = ROOT / "src", name.split(".")
    while rest and (place / rest[0]).is_dir():
        place /= rest.pop(0)
    source = place / "__init__.py"
    if rest and (place / f"{rest[0]}.py").is_file():
        source = place / f"{rest.pop(0)}.py"
    return not rest or bool(re.search(rf"^(?:(?:def|class) )?{rest[0]}\b", source.read_text("utf-8"), re.MULTILINE))


def test_every_make_command_in_a_document_is_a_target() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    missing = [
        f"{page.name}: make {name}"
        for page in PAGES
        for name in re.findall(r"(?:`|^)make ([a-z][\w-]*)", page.read_text(encoding="utf-8"), re.MULTILINE)
        if name not in targets and page.name != "CHANGELOG.md"
    ]
    assert not missing


def test_the_arrows_in_contributing_are_the_contract_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (one for one in project["tool"]["importlinter"]["contracts"] if one["name"] == ARROWS)
    layers = [{name.strip().rpartition(".")[2] for name in layer.split("|")} for layer in contract["layers"]]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"```\n(cli → .*?)```", text, re.DOTALL)
    written = [set(re.findall(r"\w+", layer)) for layer in drawn.split("→")]
    assert written == layers[layers.index({"cli"}) :]
    inside = {one["containers"][0].rpartition(".")[2] for one in project["tool"]["importlinter"]["contracts"]
              if "containers" in one}  # fmt: skip
    (named,) = re.findall(r"the layers inside (.*?) \(`pyproject", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", named)) == inside


def _leaves(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for one in nav:
            yield from _leaves(one)
    elif isinstance(nav, dict):
        for one in nav.values():
            yield from _leaves(one)


def test_the_site_has_every_page() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(_leaves(nav)) == sorted(pages)


def _modules(package: str) -> set[str]:
    folder = ROOT / "src" / Path(*package.split("."))
    files = [file for file in folder.rglob("*.py") if file.stem != "__init__"]
    return {".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in files}


def test_the_python_reference_has_every_public_module() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    science = set().union(*(_modules(f"affectlake.{package}") for package in ("spose", "geometry", "brain")))
    assert science - named == INTERNAL, "name the module in docs/reference/, or in INTERNAL above"
    every = _modules("affectlake") | {"affectlake"}
    assert named <= every


def test_the_architecture_names_every_package_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(one["layers"] for one in contracts if one["name"] == "arrows point one way")
    names = {name.strip().removeprefix("affectlake.") for layer in layers for name in layer.split("|")}
    names -= {"__main__", "generated", "omissions"}  # entry points without a part in the drawing
    drawing = (ROOT / "docs/images/architecture.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r"\w+", " ".join(re.findall(r'font-weight="600"[^>]*>([^<]+)<', drawing))))
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## The path")[0]
    described = {one.rpartition("/")[2].removesuffix(".py") for one in re.findall(r"`([\w/.]+)`", table)}
    assert names == drawn
    assert names <= described
