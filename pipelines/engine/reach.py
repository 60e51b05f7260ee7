"""The code on which the outputs of a step depend: definitions in the pipelines, and the modules that they import.

In the modules of :data:`FOLLOWED`, code is followed from definition to definition, starting at the step's function.
Other modules count as a whole, with every module that they import (:mod:`grimp`). :data:`EXCLUDED` and :data:`APART`
list the exceptions, with the reasons.
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
    "affectlake.errors": "the classes of errors and the form of their messages",
    "affectlake.extras": "which packages an extra installs",
    "affectlake.mistakes": "how mistakes in params.yaml are reported",
    "affectlake.secrets": "removing secrets from messages",
    "affectlake.process": "signals, locks and terminals",
    "affectlake.report": "figures and pages of finished tables",
    "affectlake.schemas": "a contract has a version of its own, which is stored in the files",
    "affectlake.validation": "whether a value of params.yaml is refused",
    "affectlake.lake": "how tables are stored and found, the same for every step",
    "affectlake.pipelines.catalogue": "the list of steps",
    "affectlake.pipelines.collection": "asking; the answers are input tables of steps",
    "affectlake.pipelines.engine": "which steps run, not what they compute",
    "affectlake.pipelines.outputs": "reports and images of finished tables",
    "affectlake.pipelines.params.names": "which names are refused",
    "affectlake.pipelines.step": "how a step is declared; its tables and parameters are in dvc.yaml",
    "affectlake.pipelines.stored": "which agents have answers, which decides whether a stage exists",
    "affectlake.judge.requests": "asking; the answers are input tables of steps",
    "affectlake.judge.server_command": "how a server is started",
}
"""Modules, with their submodules, on which the outputs of steps do not depend, with the reason."""

FOLLOWED: dict[str, str] = {
    "affectlake.pipelines": "several steps share a file, and all of them receive all parameters",
    "affectlake.triplets": "a collection of functions, of which each step uses a few",
    "affectlake.triplet_sampling": "a collection of functions, of which each step uses a few",
}
"""Modules, with their submodules, in which code is followed from definition to definition, with the reason."""

INCLUDED: dict[str, str] = {
    "affectlake.lake.tables.memmaps": "how a step reads the patterns",
}
"""Submodules of excluded modules on which outputs do depend, with the reason."""

APART: dict[tuple[str, str], str] = {
    ("affectlake.judge.agents", "affectlake.judge.chat"): "an agent of another kind",
    (
        "affectlake.judge.agents",
        "affectlake.judge.protocols.protocol",
    ): "the names of modalities, which are repeated in agents",
}
"""Imports that are not followed, as pairs of importing and imported module, with the reason."""


@cache
def import_graph() -> grimp.ImportGraph:
    """Return the imports of the package, including those within functions, but not those for type checkers."""
    return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)


def is_excluded(module: str) -> bool:
    """Return whether a module is excluded."""
    return _is_in(module, EXCLUDED) and not _is_in(module, INCLUDED)


def _is_in(module: str, listed: Mapping[str, str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in listed)


def _is_followed(module: str) -> bool:
    """Return whether a module is followed from definition to definition."""
    return _is_in(module, FOLLOWED) and not is_excluded(module)


class _Accessed(NamedTuple):
    """The imports of a piece of code, and the names of all attributes that it accesses."""

    imports: frozenset[tuple[str, str]]
    attributes: frozenset[str]


class _Walk:
    """The code that is reached from a step, found from definition to definition."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.definitions: dict[tuple[str, str], list[ast.stmt]] = {}
        self.whole: set[str] = set()
        self._attributes: set[str] = set()
        self._classes: list[tuple[str, ast.ClassDef]] = []

    def follow(self, module: str, name: str, *, only_followed: bool = False) -> None:
        """Add a name of a module, and everything that is reached from it."""
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
        """Add one name, and yield the names to which it refers."""
        path = self._sources.path(f"{module}.{name}") if name else None
        if path is not None:  # a name in a package may be a submodule
            module, name = f"{module}.{name}", ""
        if module.partition(".")[0] != PACKAGE or is_excluded(module):
            return
        place = self._sources.path(module)
        is_package = place is not None and place.name == "__init__.py"
        if name and is_package and name in self._of(module).imports:  # re-exported
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
            self._classes.append((module, nodes[0]))  # only the members that are accessed
            nodes = [_without_members(nodes[0])]
        self.definitions[module, name] = [*nodes, *self._of(module).loose]
        for node in self.definitions[module, name]:
            yield from self._uses(module, node)

    def _uses(self, module: str, node: ast.AST) -> Iterator[tuple[str, str]]:
        known = self._of(module)
        asked = _accessed_in(node)
        yield from asked.imports
        self._attributes |= asked.attributes
        for name in free_names(node):
            if name in known.definitions:
                yield module, name
            elif name in known.imports:
                yield from self._through(known.imports[name], name, node)

    def _through(self, target: tuple[str, str], name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Yield the names to which an imported name refers; for a module, the names accessed in it."""
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
        """Add the members of classes of parameters whose names the code accesses."""
        found: list[tuple[str, str]] = []
        n_known = -1
        while n_known < len(self.definitions):  # a member may access others
            n_known = len(self.definitions)
            for module, node in self._classes:
                for member in node.body:
                    key = (module, f"{node.name}.{_member_name(member)}")
                    if _member_name(member) in self._attributes and key not in self.definitions:
                        self.definitions[key] = [member]
                        found += self._uses(module, member)
                        if isinstance(member, ast.AnnAssign):  # only the annotation names the class of a section
                            found += self._uses(module, member.annotation)
        return found


@cache
def _accessed_in(node: ast.AST) -> _Accessed:
    inside = list(ast.walk(node))
    imports = [one for one in inside if isinstance(one, (ast.Import, ast.ImportFrom))]
    targets = frozenset(target for one in imports for _, target in imported(one))
    return _Accessed(targets, frozenset(one.attr for one in inside if isinstance(one, ast.Attribute)))


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
    """Return a module and those that it imports, directly or indirectly, and that count as a whole."""
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
    """Return the code on which the outputs of `step` depend, as text by name: ``MODULE`` or ``MODULE:DEFINITION``."""
    walk = _Walk(sources)
    walk.follow(f"{_PARAMS}.study", "Params")
    walk.follow(step.function.__module__, step.name)
    modules = set[str]()
    while more := set().union(*map(upstream, walk.whole)) - modules:
        modules |= more
        for module in more:
            for target in _accessed_in(sources.tree(module)).imports:
                walk.follow(*target, only_followed=True)
    found = walk.text()
    return found | {module: _text_of(sources.tree(module)) + sources.data(module) for module in modules}


@cache
def _text_of(*nodes: ast.AST) -> str:
    return " ".join(map(canonical, nodes))
