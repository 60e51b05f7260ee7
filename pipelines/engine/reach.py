"""Which code decides what a step writes: definitions in the pipelines, and the modules below them.

In the modules of :data:`FOLLOWED` code is followed from definition to definition, as far as the step's own function
leads. The other modules are taken as a whole, with every module that they import (:mod:`grimp`). What is left out, and
why, is in :data:`EXCLUDED` and :data:`APART`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

import grimp

from affectlake.pipelines.engine.code_files import PACKAGE, Names, Sources, imported, names_of
from affectlake.pipelines.engine.syntax import canonical, free_names
from affectlake.pipelines.step import Step

_PARAMS = f"{PACKAGE}.pipelines.params"

EXCLUDED: dict[str, str] = {
    "affectlake.cli": "commands",
    "affectlake.flows": "when and where steps run",
    "affectlake.errors": "the classes of errors and how their messages look",
    "affectlake.mistakes": "how mistakes in params.yaml are reported",
    "affectlake.secrets": "what is hidden in messages",
    "affectlake.process": "signals, locks and terminals",
    "affectlake.report": "what is shown of tables that are made",
    "affectlake.schemas": "a contract has a version of its own, which its files carry",
    "affectlake.validation": "whether a value of params.yaml is refused",
    "affectlake.lake": "how tables are stored and found, the same for every step",
    "affectlake.pipelines.catalogue": "the list of steps",
    "affectlake.pipelines.collection": "asking: its answers are tables that steps begin with",
    "affectlake.pipelines.engine": "which steps run, not what they compute",
    "affectlake.pipelines.outputs": "what is made of tables for people",
    "affectlake.pipelines.params.names": "which names are refused",
    "affectlake.pipelines.step": "how a step is declared; its tables and parameters are in dvc.yaml",
    "affectlake.pipelines.stored": "which agents have answers, which decides whether a stage exists",
    "affectlake.judge.requests": "asking: its answers are tables that steps begin with",
    "affectlake.judge.server_command": "how a server is started",
}
"""Modules, and those below them, that do not decide what a step writes, with the reason."""

FOLLOWED: dict[str, str] = {
    "affectlake.pipelines": "several steps stand in one file, and all of them are handed all parameters",
    "affectlake.triplets": "a tool box, of which each step uses a few functions",
}
"""Modules, and those below them, whose code is followed from definition to definition, with the reason."""

INCLUDED: dict[str, str] = {
    "affectlake.lake.tables.memmaps": "what a step reads of the patterns",
}
"""Modules below an excluded one that do decide it, with the reason."""

APART: dict[tuple[str, str], str] = {
    ("affectlake.judge.agents", "affectlake.judge.chat"): "an agent of another kind",
    ("affectlake.judge.agents", "affectlake.judge.protocols"): "the names of modalities, which agents repeat",
}
"""Imports that are not followed, with the reason: the module that imports, and what it imports."""


@cache
def import_graph() -> grimp.ImportGraph:
    """Return the imports of the package, those within functions among them, but not those for type checkers."""
    return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)


def is_excluded(module: str) -> bool:
    """Return whether a module is left out."""
    return _is_in(module, EXCLUDED) and not _is_in(module, INCLUDED)


def _is_in(module: str, listed: Mapping[str, str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in listed)


def _is_followed(module: str) -> bool:
    """Return whether a module is followed from definition to definition."""
    return _is_in(module, FOLLOWED) and not is_excluded(module)


class _Asked(NamedTuple):
    """What a piece of code imports, and the attributes that it asks for, of whatever."""

    imports: frozenset[tuple[str, str]]
    attributes: frozenset[str]


class _Walk:
    """The code that one step leads to, found from definition to definition."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.definitions: dict[tuple[str, str], list[ast.stmt]] = {}
        self.whole: set[str] = set()
        self._attributes: set[str] = set()
        self._classes: list[tuple[str, ast.ClassDef]] = []

    def follow(self, module: str, name: str, *, only_followed: bool = False) -> None:
        """Take a name of a module, and all that it leads to."""
        if only_followed and not (_is_followed(module) or _is_followed(f"{module}.{name}")):
            return
        waiting = [(module, name)]
        while waiting:
            waiting += self._take(*waiting.pop())
            if not waiting:
                waiting += self._members()

    def text(self) -> dict[str, str]:
        """Return the definitions as text, by ``MODULE:NAME``."""
        return {f"{module}:{name}": _text_of(*nodes) for (module, name), nodes in self.definitions.items()}

    def _of(self, module: str) -> Names:
        return names_of(self._sources.tree(module))

    def _take(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """Take one name, and yield those that it leads to."""
        path = self._sources.path(f"{module}.{name}") if name else None
        if path is not None:  # a name of a package may be a module of it
            module, name = f"{module}.{name}", ""
        if module.partition(".")[0] != PACKAGE or is_excluded(module):
            return
        place = self._sources.path(module)
        is_package = place is not None and place.name == "__init__.py"
        if name and is_package and name in self._of(module).imports:  # handed on
            yield self._of(module).imports[name]
        elif not _is_followed(module):
            self.whole.add(module)
        elif not name:
            yield from ((module, one) for one in self._of(module).definitions)
        elif (module, name) not in self.definitions and name in self._of(module).definitions:
            yield from self._define(module, name, self._of(module).definitions[name])
        elif name in self._of(module).imports:
            yield self._of(module).imports[name]

    def _define(self, module: str, name: str, nodes: list[ast.stmt]) -> Iterator[tuple[str, str]]:
        if module.startswith(_PARAMS) and isinstance(nodes[0], ast.ClassDef):
            self._classes.append((module, nodes[0]))  # of parameters, only what is asked of them
            nodes = [_without_members(nodes[0])]
        self.definitions[module, name] = [*nodes, *self._of(module).loose]
        for node in self.definitions[module, name]:
            yield from self._uses(module, node)

    def _uses(self, module: str, node: ast.AST) -> Iterator[tuple[str, str]]:
        known = self._of(module)
        asked = _asked_in(node)
        yield from asked.imports
        self._attributes |= asked.attributes
        for name in free_names(node):
            if name in known.definitions:
                yield module, name
            elif name in known.imports:
                yield from self._through(known.imports[name], name, node)

    def _through(self, target: tuple[str, str], name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Yield what an imported name leads to: of a module, the names that are asked of it."""
        module = ".".join(filter(None, target))
        if self._sources.path(module) is None:
            yield target
            return
        asked = [one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute) and _is_name(one.value, name)]
        n_uses = sum(_is_name(one, name) for one in ast.walk(node))
        yield from ((module, attribute) for attribute in asked)
        if len(asked) < n_uses or not _is_followed(module):
            yield module, ""

    def _members(self) -> list[tuple[str, str]]:
        """Take the members of the classes of parameters that the code asks for by their names."""
        found: list[tuple[str, str]] = []
        n_known = -1
        while n_known < len(self.definitions):  # a member may ask for others
            n_known = len(self.definitions)
            for module, node in self._classes:
                for member in node.body:
                    key = (module, f"{node.name}.{_member_name(member)}")
                    if _member_name(member) in self._attributes and key not in self.definitions:
                        self.definitions[key] = [member]
                        found += self._uses(module, member)
                        if isinstance(member, ast.AnnAssign):  # a section's class is named there alone
                            found += self._uses(module, member.annotation)
        return found


@cache
def _asked_in(node: ast.AST) -> _Asked:
    inside = list(ast.walk(node))
    imports = [one for one in inside if isinstance(one, (ast.Import, ast.ImportFrom))]
    targets = frozenset(target for one in imports for _, target in imported(one))
    return _Asked(targets, frozenset(one.attr for one in inside if isinstance(one, ast.Attribute)))


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _member_name(node: ast.stmt) -> str:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name
    return node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else ""


def _without_members(node: ast.ClassDef) -> ast.ClassDef:
    kept = [one for one in node.body if not _member_name(one)]
    return ast.ClassDef(name=node.name, bases=node.bases, keywords=node.keywords, body=kept,
                        decorator_list=node.decorator_list)  # fmt: skip


@cache
def upstream(module: str) -> frozenset[str]:
    """Return a module, and those that it imports and that count as a whole, directly or not."""
    found, waiting = set[str](), [module]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            imported = import_graph().find_modules_directly_imported_by(one)
            waiting += [
                other
                for other in imported
                if not is_excluded(other) and not _is_followed(other) and (one, other) not in APART
            ]
    return frozenset(found)


def reached(step: Step, sources: Sources) -> dict[str, str]:
    """Return the code that decides what `step` writes, as text by its name: ``MODULE`` or ``MODULE:DEFINITION``."""
    walk = _Walk(sources)
    walk.follow(f"{_PARAMS}.study", "Params")
    walk.follow(step.function.__module__, step.name)
    modules = set[str]()
    while more := set().union(*map(upstream, walk.whole)) - modules:
        modules |= more
        for module in more:
            for target in _asked_in(sources.tree(module)).imports:
                walk.follow(*target, only_followed=True)
    found = walk.text()
    return found | {module: _text_of(sources.tree(module)) + sources.data(module) for module in modules}


@cache
def _text_of(*nodes: ast.AST) -> str:
    return " ".join(map(canonical, nodes))
