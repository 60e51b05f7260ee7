"""The check that a step whose code changed got a new version.

DVC reruns a step when its inputs, parameters or version change, not when a comment does. So somebody has to raise
the version when the code changes what it writes. ``fingerprints.json`` keeps, for each step, its version
and a hash of its code (syntax trees without docstrings, of the function and every science module it reaches); a test
compares. After a change: raise the version if the outputs change, then ``make docs`` writes the file anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.step import Step

RECORD = Path(__file__).with_name("fingerprints.json")
_SCIENCE = (
    *(f"affectlake.{room}" for room in ("triplets", "rsm", "seeds", "stimuli", "judge", "spose", "geometry", "brain")),
    *(f"affectlake.pipelines.steps.{part}" for part in ("arrays", "metrics", "comparisons", "sweeps", "rows")),
)


def current() -> dict[str, dict[str, int | str]]:
    """Return the version and code hash of every step as the code stands."""
    return {step.name: {"version": step.version, "code": fingerprint(step)} for step in STEPS.values()}


def recorded() -> dict[str, dict[str, int | str]]:
    """Return what ``fingerprints.json`` holds; empty when there is none."""
    found: dict[str, dict[str, int | str]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def unversioned() -> list[str]:
    """Return the steps whose code differs from the record while their version does not."""
    before = recorded()
    return [
        name
        for name, now in current().items()
        if name in before and now["code"] != before[name]["code"] and now["version"] == before[name]["version"]
    ]


def fingerprint(step: Step) -> str:
    """Return a hash of the code that decides what `step` writes, blind to comments, docstrings and layout."""
    home = _source(step.function.__module__)
    assert home is not None
    tree = ast.parse(home.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    wanted, own = [step.name], dict[str, ast.FunctionDef]()
    while wanted:
        name = wanted.pop()
        if name in functions and name not in own:
            own[name] = functions[name]
            wanted += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    top_level = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    used = {node.id for function in own.values() for node in ast.walk(function) if isinstance(node, ast.Name)}
    starts = [
        node.module or ""
        for scope in (tree, *own.values())
        for node in (top_level if scope is tree else ast.walk(scope))
        if isinstance(node, ast.ImportFrom) and (scope is not tree or used & {a.asname or a.name for a in node.names})
    ]
    digest = hashlib.sha256()
    for _, function in sorted(own.items()):
        digest.update(_bare(function).encode())
    for module in sorted(_reached(starts)):
        source = _source(module)
        if source is not None:
            digest.update(module.encode() + _bare(ast.parse(source.read_text(encoding="utf-8"))).encode())
    return digest.hexdigest()[:16]


def _reached(starts: list[str]) -> set[str]:
    """Return the science modules that `starts` import, directly or not."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        source = _source(module) if module.startswith(_SCIENCE) and module not in found else None
        if source is not None:
            found.add(module)
            waiting += _imports(ast.parse(source.read_text(encoding="utf-8")))
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _bare(tree: ast.AST) -> str:
    """Return the syntax tree as text, without docstrings and positions."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:]  # type: ignore[attr-defined]
    return ast.dump(tree)
