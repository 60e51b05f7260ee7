"""Where a source file can be mutated, and by what its text is replaced there.

The operators are the usual ones (comparisons, arithmetic, conditions, constants, loops, deleted statements) and those
that make wiring mistakes: arguments that are swapped or left out, another variable, another string of the module, and
a call that is left out. A variable is replaced by one that is likely to have the same type: a parameter with the same
annotation, or a name that is assigned in the same tuple. Left out is what cannot change a result: annotations, imports,
docstrings, decorators, ``raise`` statements, messages (f-strings, and strings with spaces), lines of the log, and
blocks for type checkers.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Site(NamedTuple):
    """A place in a source file: byte offsets, the line, the kind of mutation, and the texts that can replace it."""

    start: int
    end: int
    line: int
    kind: str
    texts: tuple[str, ...]


_COMPARED = {
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="), "==": ("!=",), "!=": ("==",),
    "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",),
}  # fmt: skip
_CALCULATED = {
    "+": ("-", "*"), "-": ("+", "*"), "*": ("/", "+"), "/": ("*", "-"), "//": ("*", "/"), "%": ("*", "//"),
    "**": ("*",), "&": ("|",), "|": ("&",), "^": ("|",), "<<": (">>",), ">>": ("<<",), "@": ("*",),
}  # fmt: skip
_TOLD = {"log", "progress", "warn"}
"""Methods whose arguments are messages."""
_UNWRAPPED = {
    "abs", "arctanh", "asarray", "atleast_2d", "cast", "ceil", "clip", "copy", "drop_nulls", "exp", "expm1", "fill_nan",
    "fill_null", "filter", "floor", "head", "log", "log1p", "log2", "lower", "nan_to_num", "over", "ravel",
    "removeprefix", "removesuffix", "reversed", "rint", "rjust", "round", "sort", "sorted", "sqrt", "square",
    "strip", "tail", "tanh", "unique", "with_columns",
}  # fmt: skip
"""Functions and methods that return what they take, changed: without the call, the code still runs."""


class _Finder(ast.NodeVisitor):
    """Collect the sites of a module."""

    def __init__(self, source: str) -> None:
        self.bytes = source.encode()
        self.lines = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.sites: list[Site] = []
        self.alike: dict[str, set[str]] = {}
        tree = ast.parse(source)
        used = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        self.strings = sorted({one for one in used if isinstance(one, str) and re.fullmatch(r"[\w{}/.-]+", one)})
        self.visit(tree)

    def start(self, node: ast.AST) -> int:
        return self.lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.bytes[self.start(node) : self.end(node)].decode()

    def add(self, node: ast.AST, kind: str, *texts: str) -> None:
        if texts:
            self.sites.append(Site(self.start(node), self.end(node), node.lineno, kind, texts))  # type: ignore[attr-defined]

    def between(self, left: ast.AST, right: ast.AST, kind: str, replaced: dict[str, tuple[str, ...]]) -> None:
        """Add the operator between two operands."""
        at, gap = self.end(left), self.bytes[self.end(left) : self.start(right)].decode()
        words = "|".join(sorted(map(re.escape, replaced), key=len, reverse=True))
        found = re.search(words, re.sub(r"#.*", lambda comment: " " * len(comment[0].encode()), gap))
        if found:
            start, end = (at + len(gap[:one].encode()) for one in found.span())
            line = left.end_lineno + gap[: found.start()].count("\n")  # type: ignore[attr-defined]
            self.sites.append(Site(start, end, line, kind, replaced[found[0]]))

    # what is left out
    def visit_Import(self, node: ast.Import) -> None: ...
    def visit_ImportFrom(self, node: ast.ImportFrom) -> None: ...
    def visit_Raise(self, node: ast.Raise) -> None: ...
    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for one in node.body:
            self.visit(one)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer = self.alike
        groups: dict[str, set[str]] = {}
        for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if one.annotation is not None:
                groups.setdefault(self.text(one.annotation), set()).add(one.arg)
        for found in ast.walk(node):
            if isinstance(found, ast.Tuple) and isinstance(found.ctx, ast.Store):
                names = {one.id for one in found.elts if isinstance(one, ast.Name)} - {"_"}
                groups.setdefault(f"{found.lineno}:{found.col_offset}", set()).update(names)
        self.alike = dict(outer)
        for names in groups.values():
            for name in names:
                self.alike[name] = self.alike.get(name, set()) | names - {name}
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.alike = outer

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id in {"Literal", "NDArray", "Callable"}):
            self.generic_visit(node)

    # operators
    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right in pairwise(operands):
            self.between(left, right, "comparison", _COMPARED)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.between(node.left, node.right, "arithmetic", _CALCULATED)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in pairwise(node.values):
            self.between(left, right, "and, or", {"and": ("or",), "or": ("and",)})
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.add(node, "sign", f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add(node, "constant", str(not value))
        elif isinstance(value, int):
            self.add(node, "constant", str(value + 1), f"({value - 1})")
        elif isinstance(value, float):
            self.add(node, "constant", repr(value * 2 if value else 1.0), repr(value / 2 if value else 0.5))
        elif isinstance(value, str) and value in self.strings and len(self.strings) > 1:
            self.add(node, "string", *(repr(one) for one in self.strings if one != value))

    def condition(self, test: ast.expr) -> None:
        self.add(test, "condition", f"(not ({self.text(test)}))", "True", "False")
        self.visit(test)

    def visit_If(self, node: ast.If) -> None:
        if self.text(node.test) == "TYPE_CHECKING":
            return
        self.condition(node.test)
        for one in (*node.body, *node.orelse):
            self.visit(one)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.condition(node.test)
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.condition(test)
        self.visit(node.iter)

    def visit_For(self, node: ast.For) -> None:
        self.add(node.iter, "loop", "()")
        self.visit(node.iter)
        for one in (*node.body, *node.orelse):
            self.visit(one)

    def visit_Break(self, node: ast.Break) -> None:
        self.add(node, "loop", "continue", "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, "loop", "break", "pass")

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(one, ast.Subscript | ast.Attribute) for one in node.targets):
            self.add(node, "statement", "pass")
        for one in node.targets:
            self.visit(one)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "statement", "pass")
        self.between(node.target, node.value, "arithmetic", {f"{one}=": tuple(f"{to}=" for to in others)
                                                             for one, others in _CALCULATED.items()})  # fmt: skip
        self.visit(node.target)
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node.value, ast.Call) and not self.is_told(node.value):
            self.add(node, "statement", "pass")
        self.visit(node.value)

    def is_told(self, call: ast.Call) -> bool:
        return isinstance(call.func, ast.Attribute) and call.func.attr in _TOLD and len(call.args) < 3

    def visit_Call(self, node: ast.Call) -> None:
        if self.is_told(node) and self.text(node.func) not in {"np.log", "math.log"}:
            return
        for one, other in pairwise(node.args):
            if type(one) is type(other) and not isinstance(one, ast.Starred) and self.text(node.func) != "isinstance":
                gap = self.bytes[self.end(one) : self.start(other)].decode()
                swapped = f"{self.text(other)}{gap}{self.text(one)}"
                self.sites.append(Site(self.start(one), self.end(other), one.lineno, "swapped arguments", (swapped,)))
        for keyword in node.keywords:
            if keyword.arg is not None:
                self.keyword(keyword)
        self.unwrap(node)
        self.generic_visit(node)

    def unwrap(self, node: ast.Call) -> None:
        """Add a call in place of which its object, or its only argument, can stand."""
        name = self.text(node.func).rpartition(".")[2]
        if name not in _UNWRAPPED:
            return
        if isinstance(node.func, ast.Attribute) and self.text(node.func.value) not in {"np", "math", "nb"}:
            self.add(node, "call left out", f"({self.text(node.func.value)})")
        elif node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
            self.add(node, "call left out", f"({self.text(node.args[0])})")

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and self.alike.get(node.id):
            self.add(node, "another variable", *sorted(self.alike[node.id]))

    def keyword(self, keyword: ast.keyword) -> None:
        """Add the keyword argument, with the comma before or behind it."""
        start, end = self.start(keyword), self.end(keyword)
        behind = re.match(rb"\s*,[ ]?", self.bytes[end:])
        before = re.search(rb",\s*$", self.bytes[:start])
        if behind:
            end += behind.end()
        elif before:
            start = before.start()
        self.sites.append(Site(start, end, keyword.lineno, "argument left out", ("",)))


def sites(source: str) -> list[Site]:
    """Return the places where a module can be mutated, in the order of the text."""
    return sorted(set(_Finder(source).sites))


def mutated(source: str, site: Site, text: str) -> str:
    """Return the source with the text at a site replaced."""
    found = source.encode()
    return (found[: site.start] + text.encode() + found[site.end :]).decode()


def chosen(source: str, site: Site, rng: random.Random) -> tuple[str, str] | None:
    """Return a replacement at a site, drawn at random, and the mutated source; None if none of them is other code."""
    before = ast.dump(ast.parse(source))
    for text in rng.sample(site.texts, len(site.texts)):
        after = mutated(source, site, text)
        try:
            if ast.dump(ast.parse(after)) != before:
                return text, after
        except SyntaxError:
            continue
    return None


def functions(source: str) -> Iterator[tuple[int, int]]:
    """Yield the first line, decorators included, and the last line of each function of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            yield first, int(node.end_lineno or node.lineno)
