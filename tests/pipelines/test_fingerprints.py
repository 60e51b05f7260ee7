"""The version guard: each change of code that decides what a step writes names the step, and no other change does."""

from __future__ import annotations

import ast
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine import fingerprints, reach, syntax
from affectlake.pipelines.engine.code_files import ROOT, Sources

STEPS_OF = "affectlake.pipelines.steps"
PARAMS = "affectlake.pipelines.params"
Edit = Callable[..., list[str]]
REACHED = {name: set(reach.reached(step, Sources())) for name, step in STEPS.items()}
BEFORE = {name: found["code"] for name, found in fingerprints.current().items()}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's source."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "affectlake", root / "affectlake", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def edit(copied: Path) -> Edit:
    """Give a module other code in the copy and return which of some steps it changes; then the code is as before."""

    def change(module: str, code: str, steps: Iterable[str] = STEPS) -> list[str]:
        path = Sources(copied).path(module)
        assert path is not None
        before = path.read_bytes()
        path.write_text(code, encoding="utf-8")
        now = Sources(copied)
        named = [name for name in steps if fingerprints.fingerprint(STEPS[name], now) != BEFORE[name]]
        path.write_bytes(before)
        return named

    return change


def source(module: str) -> str:
    path = Sources().path(module)
    assert path is not None
    return path.read_text(encoding="utf-8")


def rewritten(module: str, name: str, old: str, new: str) -> str:
    """Return the code of a module in which `old` is `new` within one definition, or member of a class."""
    tree = ast.parse(source(module))
    nodes = [node for node in ast.walk(tree) if _defines(node, name)]
    assert len(nodes) == 1, f"{module} has {len(nodes)} definitions of {name}"
    text = ast.unparse(nodes[0])
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
    (made,) = ast.parse(text.replace(old, new)).body
    for parent in ast.walk(tree):
        body = getattr(parent, "body", None)
        if isinstance(body, list) and nodes[0] in body:
            body[body.index(nodes[0])] = made
    return ast.unparse(tree)


def _defines(node: ast.AST, name: str) -> bool:
    return getattr(node, "name", "") == name or (
        isinstance(node, ast.Assign) and any(getattr(target, "id", "") == name for target in node.targets)
    )


PLANTED = {
    "patterns are doubled": (
        f"{STEPS_OF}.brain_arrays", "beta_rows", "found.patterns.ravel()", "2 * found.patterns.ravel()",
        ["ingest_brains"]),
    "columns of ratings are reversed": (
        "affectlake.judge.vectors.ratings", "rating_matrix", "RatingMatrix(scores,", "RatingMatrix(scores[:, ::-1],",
        ["choose_easy_trials", "choose_by_ratings", "measure", "describe", "ingest_brains", "share_stimuli",
         "select_stimuli", "encode_brains", "search_brains", "measure_distances"]),
    "brains are drawn under another name": (
        f"{STEPS_OF}.brain_sources", "recordings", "params.seed, 'brain', 'synthetic'", "params.seed, 'brain', 'other'",
        ["ingest_brains", "measure_distances"]),
    "another column is scored": (
        f"{STEPS_OF}.brain_arrays", "METHODS", "'encoding_r'", "'p'",
        ["score_regions", "compare_brains", "compare_bases", "group_brain_maps"]),
    "fits to more judgments are left out": (
        "affectlake.triplets", "MIN_JUDGMENTS", "100", "100000",
        ["sweep"]),
    "l1: auto is ignored": (
        f"{PARAMS}.study", "candidates", "if agent in self.auto", "if False",
        ["choose_by_anchored", "choose_by_judgments", "embed", "sweep"]),
    "features are negated": (
        f"{STEPS_OF}.videos", "feature_rows", "pl.Series(vectors", "pl.Series(-vectors",
        ["encode_frames", "encode_clips", "encode"]),
    "judgments are of other triplets": (
        f"{STEPS_OF}.arrays", "_of_split", "pl.col('split') == split", "pl.col('split') != split",
        ["embed", "embed_vice", "sweep", "measure"]),
}  # fmt: skip


@pytest.mark.parametrize("what", list(PLANTED))
def test_a_change_names_the_steps_that_it_changes(what: str, edit: Edit) -> None:
    module, name, old, new, steps = PLANTED[what]
    assert sorted(edit(module, rewritten(module, name, old, new))) == sorted(steps)


def test_layout_comments_docstrings_and_messages_name_no_step(edit: Edit) -> None:
    module = "affectlake.geometry.classification"
    text = source(module)
    assert edit(module, f'"""Something else."""\n# a comment\n{ast.unparse(ast.parse(text))}\n') == []
    raised = next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Raise))
    assert isinstance(raised.exc, ast.Call)
    told = ast.get_source_segment(text, raised.exc.args[0])
    assert told is not None
    assert edit(module, text.replace(told, '"other words"')) == []
    assert edit(module, text.replace("raise AffectlakeError", "raise ValueError", 1))


def test_a_change_in_any_module_that_is_reached_names_the_steps_that_reach_it(
    edit: Edit,
) -> None:
    modules = sorted(set().union(*REACHED.values()))
    whole = [one for one in modules if ":" not in one]
    assert len(whole) > 60
    for module in whole:
        named = edit(module, f"{source(module)}\n_PLANTED = 1\n")
        assert named == [name for name, found in REACHED.items() if module in found] != [], module


def test_a_change_of_any_definition_that_is_reached_names_a_step(edit: Edit) -> None:
    for one in sorted({one for found in REACHED.values() for one in found if ":" in one}):
        module, _, name = one.partition(":")
        steps = [step for step, found in REACHED.items() if one in found]
        assert edit(module, _changed(module, name), steps) == steps != [], one


def _changed(module: str, name: str) -> str:
    """Return the code of a module in which one definition, or member of a class, does something else."""
    tree = ast.parse(source(module))
    body = tree.body
    for word in name.split("."):
        node = next(node for node in body if word in _bound(node))
        body = getattr(node, "body", [])
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        node.body.insert(1, ast.parse("planted = 1").body[0])
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        node.value = ast.Tuple([node.value or ast.Constant(0), ast.Constant(1)], ast.Load())
    else:
        raise AssertionError(f"{module}:{name} is of no kind that is planted in")
    return ast.unparse(ast.fix_missing_locations(tree))


def _bound(node: ast.stmt) -> set[str]:
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else names


def test_a_data_file_of_a_module_counts_as_its_code(copied: Path) -> None:
    path = copied / "affectlake/brain/recordings/regions.yaml"
    text = path.read_text(encoding="utf-8")
    for change, expected in (("# a comment\n", False), ("XX: {name: Nowhere}\n", True)):
        path.write_text(f"{text}\n{change}", encoding="utf-8")
        named = [name for name, found in fingerprints.current(Sources(copied)).items() if found["code"] != BEFORE[name]]
        assert ("ingest_brains" in named) is expected
    path.write_text(text, encoding="utf-8")


def test_what_steps_import_is_reached_or_left_out_by_name() -> None:
    """The import graph alone, in which every module counts, has no module that the walk overlooks."""
    graph = reach.import_graph()
    homes = {step.function.__module__ for step in STEPS.values()}
    imported = set().union(homes, *(graph.find_upstream_modules(home) for home in homes))
    found = {one.partition(":")[0] for reached in REACHED.values() for one in reached}
    overlooked = {module for module in imported - found if not reach.is_excluded(module)}
    overlooked -= {one for one in overlooked if one.startswith(f"{PARAMS}.")}  # checks: DVC compares the values
    assert overlooked <= {"affectlake.stimuli"}  # it hands on names of its modules
    for listed in (reach.EXCLUDED, reach.INCLUDED):
        assert set(listed) <= graph.modules
    for importer, module in reach.APART:
        assert module in graph.find_modules_directly_imported_by(importer)


@pytest.mark.parametrize(
    ("code", "free"),
    [
        ("def f(x, *, y=z):\n    return x + y + w", {"z", "w"}),
        ("def f(a: A) -> B:\n    b: C = a\n    return b", set()),
        ("def f():\n    def g(h):\n        return h + k\n    return g(1) + h", {"k", "h"}),
        ("def f(rows):\n    return [row for row in rows if row] + row", {"row"}),
        ("def f():\n    global n\n    n = 1", {"n"}),
        ("def f():\n    from a import b as c\n    try:\n        return c\n    except E as e:\n        return e", {"E"}),
        ("class A(B):\n    x = 1\n    def f(self):\n        return x", {"B", "x"}),
        ("f = lambda x: x + y", {"y"}),
        ("def f(v):\n    match v:\n        case {'a': x, **rest}:\n            x + rest + q", {"q"}),
    ],
)
def test_free_names(code: str, free: set[str]) -> None:
    node = ast.parse(code).body[0]
    assert syntax.free_names(node) == free


VERSIONS = ("3.12", "3.13")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_text_is_the_same_under_every_version_of_python(version: str, tmp_path: Path) -> None:
    python = _python(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    odd = tmp_path / "odd.py"
    odd.write_text(
        'def f(x, /, *a: int, k=1.50, **r):\n    """D."""\n    v, w = 3, 2\n'
        "    return f'{x!r:>{w}.{v}f} {{}}' 'b' f'' + f'{x=}' + rb'\\x00'.decode() + str(1e400j) + str(-0.0)\n"
        "class C[T]: pass\n".replace("[T]", "")
        + "try:\n    pass\nexcept* ValueError:\n    pass\nasync def g():\n    return [y async for y in z]\n"
    )
    files = [odd, *sorted((ROOT / "affectlake").rglob("*.py"))]
    program = (
        "import sys, hashlib, runpy\n"
        f"canonical = runpy.run_path({syntax.__file__!r})['canonical']\n"
        "import ast\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    text = canonical(ast.parse(open(line, encoding='utf-8').read()))\n"
        "    print(hashlib.sha256(text.encode()).hexdigest())\n"
    )
    names = "\n".join(map(str, files))
    done = subprocess.run([python, "-c", program], input=names, capture_output=True, text=True, check=True)
    here = [hashlib.sha256(syntax.canonical(ast.parse(path.read_text("utf-8"))).encode()).hexdigest() for path in files]
    assert dict(zip(files, done.stdout.split(), strict=True)) == dict(zip(files, here, strict=True))


def _python(version: str) -> str | None:
    """Return an interpreter of that version that starts, on the path or among those of pyenv."""
    places = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for place in filter(None, places):
        done = subprocess.run([place, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and f"Python {version}." in done.stdout:
            return place
    return None
