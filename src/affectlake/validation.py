"""Strict models of user input, and their JSON schemas.

The content of ``params.yaml`` is defined by models that derive from :class:`Strict`. The JSON schema for editors is
made from the models, and error messages are made from that schema (:mod:`affectlake.mistakes`), so that all three
agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

from affectlake.mistakes import Mistake, mistakes_of, refusal, shown


class Strict(BaseModel):
    """A frozen model that refuses unknown keys, values of another type and infinite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)

    def replaced(self, **changes: Any) -> Self:
        """Return a validated copy with some values changed."""
        return type(self).model_validate({**dict(self), **changes})


class Entry(Strict):
    """An entry of a mapping, which has its key in the mapping as an attribute but not as a value."""

    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """Its key."""
        return self._name

    def named(self, name: str) -> Self:
        """Return a copy with the key `name`."""
        found = self.model_copy()
        found._name = name
        return found


E = TypeVar("E", bound=Entry)


def _name_each(entries: dict[str, E]) -> dict[str, E]:
    return {name: entry.named(name) for name, entry in entries.items()}


def _refuse_repeated(values: Any) -> Any:
    twice = [value for at, value in enumerate(values) if value in values[:at]]
    if twice:
        raise mistake(f"contains {shown(twice[0])} twice")
    return values


def _null_as(instead: Any) -> WrapValidator:
    return WrapValidator(lambda value, inner: instead if value is None else inner(value))


EACH_NAMED = AfterValidator(_name_each)
"""For a mapping of entries: gives each entry its key."""

UNIQUE = AfterValidator(_refuse_repeated)
"""For a list: refuses repeated values. Its schema needs ``json_schema_extra={"uniqueItems": True}`` as well."""

Text = Annotated[str, Field(pattern=r"\S")]
"""A text that is not blank."""

OptionalText = Annotated[
    Text, _null_as(""), WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "null"}]})
]
"""A text that is not blank, or null, which gives an empty text."""

Secret = Annotated[str, Field(json_schema_extra={"writeOnly": True})]
"""A text that is not shown in messages."""

NULL_AS_EMPTY = _null_as({})
"""For a mapping: null gives an empty mapping. Its schema needs :func:`or_null` as well."""


def or_null(schema: dict[str, Any]) -> None:
    """Make a property's JSON schema accept null as well; for `json_schema_extra`."""
    outer: dict[str, Any] = {key: schema.pop(key) for key in ("description", "default", "examples") if key in schema}
    plain = dict(schema)
    schema.clear()
    schema.update(outer, anyOf=[plain, {"type": "null"}])


def mistake(problem: str, **more: str) -> PydanticCustomError:
    """Return the exception that a validator raises for a mistake.

    Parameters
    ----------
    problem : str
        The problem, as a predicate of the key: ``has a server twice``.
    **more : str
        ``at``: the key within the value to which the problem applies. ``wanted``, ``found``, ``allowed``, ``todo``: as
        for :class:`~affectlake.errors.AffectlakeError`. The value itself is shown only if it is given as `found`.
    """
    return PydanticCustomError("mistake", "{problem}", {"problem": problem, **more})


def check(kind: Any, value: object, name: str = "", within: str = "", context: Mapping[str, Any] | None = None) -> Any:
    """Validate `value` and return it as a `kind`.

    Parameters
    ----------
    kind : type
        A :class:`Strict` model, or an annotation of such models.
    value : object
        The value as read from YAML.
    name : str
        Name of the whole value in messages, such as the path of a file. May be empty.
    within : str
        The path of `value` in the whole.
    context : mapping, optional
        What validators may use besides the value.

    Raises
    ------
    UsageError
        If there are mistakes in the value; the message lists all of them.
    """
    found, mistakes = examine(kind, value, within, context)
    if mistakes:
        raise refusal(name, mistakes)
    return found


def examine(
    kind: Any, value: object, within: str = "", context: Mapping[str, Any] | None = None
) -> tuple[Any, list[Mistake]]:
    """Return `value` as a `kind` (None if there are mistakes), and all mistakes in it."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value, context=dict(context or {})), []
    except ValidationError as error:
        return None, mistakes_of(error, json_schema(kind), within)


class _Plain(GenerateJsonSchema):
    """A schema generator that leaves out titles, which repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def json_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a `kind`."""
    found: dict[str, Any] = TypeAdapter(kind).json_schema(schema_generator=_Plain)
    for node in (found, *found.get("$defs", {}).values()):
        node.pop("title", None)
        if "description" in node:
            node["description"] = " ".join(node["description"].partition("\n\n")[0].replace("``", "`").split())
    return found
