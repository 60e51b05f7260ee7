"""Error messages for strict models: the path of the key, what it must be, what was found, and what to do.

The messages are made from the model's JSON schema, so that models need no messages of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, NamedTuple

from pydantic import ValidationError

from affectlake.errors import UsageError, nearest

Schema = Mapping[str, Any]

_LONGEST = 120
_MOST_NAMED = 8
_ABSENT = object()
_PLURALS = {"integer": "integers", "number": "numbers", "string": "texts"}
_SINGULARS = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "a text"}


class Mistake(NamedTuple):
    """One mistake in a value: the path of its key, the problem, and the other parts of a message.

    `problem` is a predicate of the path, or begins with a colon.
    """

    path: str
    problem: str
    wanted: str = ""
    found: str = ""
    allowed: str = ""
    todo: str = ""

    @property
    def summary(self) -> str:
        """The path and the problem, as one sentence."""
        path = self.path or "the whole"
        return f"{path}{self.problem}" if self.problem.startswith(":") else f"{path} {self.problem}"

    @property
    def line(self) -> str:
        """All parts on one line."""
        parts = (("wanted", self.wanted), ("found", self.found), ("allowed", self.allowed), ("to do", self.todo))
        return "; ".join([self.summary, *(f"{name}: {text}" for name, text in parts if text)])


def refusal(name: str, mistakes: list[Mistake]) -> UsageError:
    """Return the error that reports one or more mistakes.

    Parameters
    ----------
    name : str
        Name of the whole value in messages, such as the path of a file. May be empty.
    mistakes : list of Mistake
        At least one.
    """
    first, *others = mistakes
    if others:
        lines = "".join(f"\n    {one.line}" for one in mistakes)
        return UsageError(f"{name or 'the entry'} has {len(mistakes)} mistakes", found=lines)
    summary = f"{name}: {first.summary}" if name else first.summary
    return UsageError(summary, wanted=first.wanted, found=first.found, allowed=first.allowed, todo=first.todo)


def mistakes_of(error: ValidationError, schema: Schema, within: str) -> list[Mistake]:
    """Return every mistake that pydantic found, one for each path.

    Parameters
    ----------
    error : ValidationError
        The exception of pydantic.
    schema : mapping
        The JSON schema of the model.
    within : str
        The path of the whole value.
    """
    found: dict[str, Mistake] = {}
    for one in error.errors(include_url=False):
        mistake = _mistake(schema, one, within)
        found.setdefault(mistake.path, mistake)
    return list(found.values())


class _Place(NamedTuple):
    """The location of an error: its path, the schemas of the value and its parent, and alternative forms of it."""

    path: str
    node: Schema
    parent: Schema
    others: list[Schema]


def _place(schema: Schema, loc: Iterable[str | int], within: str) -> _Place:
    """Follow an error's location. Parts that name a form of a value instead of a key are left out of the path."""
    path, node, parent, others = within, schema, schema, list[Schema]()
    for word in loc:
        node = _simple(schema, node)
        if "oneOf" in node:
            chosen = _option(schema, node, str(word))
            others = [form for one in node["oneOf"] if (form := _deref(schema, one)) is not chosen]
            node = chosen
            continue
        if "anyOf" in node:
            break
        parent = node
        if isinstance(word, int) and "items" in node:
            path, node = f"{path}[{word}]", node["items"]
            continue
        path = f"{path}.{word}" if path else str(word)
        of_any_name = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
        inner = node.get("properties", {}).get(word, of_any_name)
        node = inner if isinstance(inner, Mapping) else {}
    return _Place(path, _simple(schema, node), parent, others)


def _deref(schema: Schema, node: Schema) -> Schema:
    """Return the target of a reference, together with the keys beside the reference."""
    if "$ref" not in node:
        return node
    target: Schema = schema["$defs"][node["$ref"].rpartition("/")[2]]
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return {**target, **beside} if beside else target


def _simple(schema: Schema, node: Schema) -> Schema:
    """Return a node with its reference resolved, and without null if there is only one other form."""
    node = _deref(schema, node)
    forms = [form for form in node.get("anyOf", []) if form.get("type") != "null"]
    if len(forms) != 1:
        return node
    beside = {key: value for key, value in node.items() if key != "anyOf"}
    return {**_simple(schema, forms[0]), **beside, "or null": len(forms) < len(node["anyOf"])}


def _option(schema: Schema, node: Schema, tag: str) -> Schema:
    """Return the form for a tag, from the discriminator's mapping or by the name of the model."""
    ref = node.get("discriminator", {}).get("mapping", {}).get(tag, f"#/$defs/{tag}")
    return _deref(schema, {"$ref": ref})


def _mistake(schema: Schema, error: Any, within: str) -> Mistake:
    """Return a mistake for one of pydantic's errors."""
    kind, given, loc = str(error["type"]), error["input"], tuple(error["loc"])
    if loc and loc[-1] == "[key]":
        key, path = loc[-2], _place(schema, loc[:-2], within).path
        return Mistake(path, f"has the key {shown(key)}, which is not a text", todo=f"put it in quotes: '{shown(key)}'")
    path, node, parent, others = _place(schema, loc, within)
    if kind == "mistake":
        return _own(path, error["ctx"])
    if kind in ("extra_forbidden", "missing"):
        known = list(parent.get("properties", {}))
        missing = Mistake(path, "is missing", wanted=_wanted(schema, node))
        return missing if kind == "missing" else _unknown(path, str(loc[-1]), known, others, schema)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key, allowed = node["discriminator"]["propertyName"], list(node["discriminator"]["mapping"])
        return _not_one_of(f"{path}.{key}" if path else key, given.get(key, _ABSENT), allowed)
    if "enum" in node:
        return _not_one_of(path, given, [str(value) for value in node["enum"]])
    return _misfit(path, given, node, "a finite number" if kind == "finite_number" else format_expected(schema, node))


def _own(path: str, context: Mapping[str, Any]) -> Mistake:
    """Return the mistake that one of our validators raised (:func:`affectlake.validation.mistake`)."""
    rest = {key: str(context[key]) for key in ("wanted", "found", "allowed", "todo") if key in context}
    return Mistake(f"{path}.{context['at']}" if context.get("at") else path, str(context["problem"]), **rest)


def _misfit(path: str, given: object, node: Schema, wanted: str) -> Mistake:
    is_bare = node.get("type") == "string" and isinstance(given, bool | int | float | date)
    todo = "put it in quotes, so that YAML reads it as a text" if is_bare else ""
    return Mistake(path, f"must be {wanted}", found="" if node.get("writeOnly") else shown(given), todo=todo)


def _unknown(path: str, key: str, known: list[str], others: list[Schema], whole: Schema) -> Mistake:
    """Return the mistake for an unknown key; if another form of the entry, or the top level, has it, name that."""
    theirs = [_tag(form) for form in others if key in form.get("properties", {})]
    if theirs:
        todo = f"remove it: only {_listed(theirs)} has it"
    elif key in whole.get("properties", {}):
        todo = f"move it out of its section: {key} is at the top level"
    else:
        todo = nearest(key, known) or "remove it"
    return Mistake(path, "is not a known key", allowed=", ".join(known), todo=todo)


def _tag(form: Schema) -> str:
    """Return a text that identifies one form among several: ``kind: ratings``."""
    properties = form.get("properties", {})
    fixed = [f"{key}: {node['const']}" for key, node in properties.items() if "const" in node]
    return fixed[0] if fixed else "one with " + ", ".join(form.get("required", []))


def _not_one_of(path: str, given: object, allowed: list[str]) -> Mistake:
    if given is _ABSENT:
        return Mistake(path, "is missing", allowed=", ".join(allowed))
    problem = f"must be {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}"
    return Mistake(path, problem, found=shown(given), todo=nearest(given, allowed) if isinstance(given, str) else "")


def _wanted(schema: Schema, node: Schema) -> str:
    description = str(node.get("description", "")).rstrip(".")
    expected = format_expected(schema, node)
    return expected if "properties" in node or not description else f"{expected}: {description}"


def format_expected(schema: Schema, node: Schema) -> str:
    """Return a description of the legal values: ``an integer, 1 or more``."""
    node = _simple(schema, node)
    examples = node.get("examples", [])
    such = f", such as {shown(examples[0])}" if examples else ""
    return ("null or " if node.get("or null") else "") + _kind(schema, node) + such


def _kind(schema: Schema, node: Schema) -> str:
    if "const" in node or "enum" in node:
        return str(node["const"]) if "const" in node else f"one of {', '.join(map(str, node['enum']))}"
    if "anyOf" in node:
        return ", or ".join(_kind(schema, _simple(schema, form)) for form in node["anyOf"])
    if "oneOf" in node:
        return "a mapping, one of " + ", ".join(_tag(_deref(schema, form)) for form in node["oneOf"])
    kind = str(node.get("type"))
    if kind == "object":
        keys = node.get("required") or list(node.get("properties", {}))
        amount = _amount(node.get("minProperties"), node.get("maxProperties"))
        return f"a mapping with {_listed(keys)}" if keys else f"a mapping{f' of {amount}entries' if amount else ''}"
    if kind == "array":
        inner = _simple(schema, node.get("items", {}))
        bounds = _bounds(inner).removeprefix(",")
        amount = _amount(node.get("minItems"), node.get("maxItems"))
        return (
            f"a list of {amount}{_PLURALS.get(str(inner.get('type')), 'entries')}{', each' if bounds else ''}{bounds}"
        )
    return _SINGULARS.get(kind, "another value") + _bounds(node)


def _amount(least: int | None, most: int | None) -> str:
    if most is not None:
        return f"{least or 0} to {most} "
    return "one or more " if least else ""


def _bounds(node: Schema) -> str:
    low, high = _number(node, "minimum"), _number(node, "maximum")
    above, below = _number(node, "exclusiveMinimum"), _number(node, "exclusiveMaximum")
    if low:
        until = f" to {high}" if high else f" to below {below}" if below else ""
        return f" from {low}{until}" if until else f", {low} or more"
    begin = f" above {above}" if above else ""
    end = f" up to {high}" if high else f" below {below}" if below else ""
    return f"{begin} and{end}" if begin and end else begin + end


def _number(node: Schema, bound: str) -> str:
    value = node.get(bound)
    return "" if value is None else str(int(value)) if value == int(value) else f"{value:g}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")


def shown(value: object) -> str:
    """Return a value as YAML would write it, shortened."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
