"""Python code as canonical text, which does not depend on layout, comments, docstrings and texts of error messages.

No module of affectlake is imported here, and the text does not depend on the version of Python that parses the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_IGNORED = ("ctx", "kind", "type_comment", "type_ignores", "returns")  # fields that do not affect what code does
_WORDS = ("description", "examples", "json_schema_extra", "title")  # keywords of `Field` that are documentation


@cache
def parsed(text: str) -> ast.Module:
    """Return the syntax tree of a module; it is cached, so callers must not change it."""
    return ast.parse(text)


def canonical(node: ast.AST) -> str:
    """Return a syntax tree as text.

    Parts that do not affect what the code computes are left out: docstrings, annotations of arguments, the arguments of
    raised errors, and fields without a value, which differ between versions of Python.
    """
    parts = [type(node).__name__]
    for name in sorted(node._fields):
        value: Any = getattr(node, name, None)
        if name in _IGNORED or (name == "annotation" and isinstance(node, ast.arg)):
            continue
        if isinstance(node, ast.Assert) and name == "msg":
            continue
        if isinstance(node, ast.Raise):
            value = _without_words(value)
        elif name == "body" and isinstance(value, list):
            value = [one for one in value if not is_for_readers(one)]
        elif name == "keywords" and isinstance(node, ast.Call) and _name(node.func) == "Field":
            value = [one for one in value if one.arg not in _WORDS]
        elif name == "values" and isinstance(node, ast.JoinedStr):
            value = _merged(value)
        text = _text(value)
        if text:
            parts.append(f"{name}={text}")
    return f"({' '.join(parts)})"


def _text(value: object) -> str:
    if isinstance(value, ast.AST):
        return canonical(value)
    if isinstance(value, list):
        return f"[{' '.join(_text(one) or '-' for one in value)}]" if value else ""
    return "" if value is None else repr(value)


def _name(node: ast.AST | None) -> str:
    """Return the last part of a dotted name; empty for other code."""
    return getattr(node, "id", "") or getattr(node, "attr", "")


def _without_words(raised: ast.expr | None) -> ast.expr | None:
    """Return a raised expression without the arguments of an error."""
    if isinstance(raised, ast.Call) and _name(raised.func).endswith("Error"):
        return raised.func
    return raised


def is_for_readers(one: ast.stmt) -> bool:
    """Return whether a statement is a docstring, or is only for type checkers."""
    if isinstance(one, ast.Expr):
        return isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
    return isinstance(one, ast.If) and _name(one.test) == "TYPE_CHECKING"


def _merged(values: Iterable[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string, with adjacent texts joined and empty ones left out."""
    found: list[ast.expr] = []
    for one in values:
        last = found[-1] if found else None
        if isinstance(one, ast.Constant) and isinstance(last, ast.Constant):
            found[-1] = ast.Constant(str(last.value) + str(one.value))
        elif not (isinstance(one, ast.Constant) and one.value == ""):
            found.append(one)
    return found


@cache
def free_names(node: ast.AST) -> frozenset[str]:
    """Return the free names of code: not its arguments, variables and annotations."""
    bound, used, inner = set[str](), set[str](), set[str]()
    for one in _in_scope(node):
        if isinstance(one, ast.Name):
            (used if isinstance(one.ctx, ast.Load) else bound).add(one.id)
        elif isinstance(one, (*_SCOPES, *_COMPREHENSIONS)) and one is not node:
            inner |= free_names(one)
            bound.add(getattr(one, "name", ""))
        elif isinstance(one, ast.arg):
            bound.add(one.arg)
        elif isinstance(one, ast.alias):
            bound.add((one.asname or one.name).partition(".")[0])
        elif isinstance(one, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and one.name:
            bound.add(one.name)
        elif isinstance(one, ast.MatchMapping) and one.rest:
            bound.add(one.rest)
    outside = {name for one in ast.walk(node) if isinstance(one, ast.Global) for name in one.names}
    if isinstance(node, ast.ClassDef):  # functions in a class do not see the names of its body
        return frozenset((used - bound) | inner | outside)
    if isinstance(node, (*_SCOPES, *_COMPREHENSIONS)):
        return frozenset(((used | inner) - bound) | outside)
    return frozenset(used | inner)


def _in_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope, including inner scopes but not their contents; annotations are left out."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        if one is not node and isinstance(one, (*_SCOPES, *_COMPREHENSIONS)):
            continue
        for name, value in ast.iter_fields(one):
            if name not in ("annotation", "returns"):
                waiting += [child for child in (value if isinstance(value, list) else [value])
                            if isinstance(child, ast.AST)]  # fmt: skip
