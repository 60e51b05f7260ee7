"""Strict models of what a user writes, and their JSON schema.

What ``params.yaml`` may hold is said once, by models that derive from :class:`Strict`. The JSON schema that editors
read is made from the same models, and the words of a message are made from that schema
(:mod:`affectlake.mistakes`), so that all three agree. Which models there are does not belong here.
"""

from __future__ import annotations

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
    """A frozen model that takes no unknown key, no value of another type and no infinite number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)

    def replaced(self, **changes: Any) -> Self:
        """Return a copy with some values changed, checked like any other."""
        return type(self).model_validate({**dict(self), **changes})


class Entry(Strict):
    """An entry of a mapping that knows its key in the mapping; the key is not one of its values."""

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
        raise mistake(f"names {shown(twice[0])} twice")
    return values


def _null_as(instead: Any) -> WrapValidator:
    return WrapValidator(lambda value, inner: instead if value is None else inner(value))


EACH_NAMED = AfterValidator(_name_each)
"""Of a mapping of entries: each gets its key."""

UNIQUE = AfterValidator(_refuse_repeated)
"""Of a list: no value twice. To be said in its schema as well: ``json_schema_extra={"uniqueItems": True}``."""

Text = Annotated[str, Field(pattern=r"\S")]
"""A text that is not blank."""

OptionalText = Annotated[
    Text, _null_as(""), WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "null"}]})
]
"""A text that is not blank, or null: then it is empty."""

Secret = Annotated[str, Field(json_schema_extra={"writeOnly": True})]
"""A text that no message repeats."""

NULL_AS_EMPTY = _null_as({})
"""Of a mapping: null is an empty one. The schema needs ``anyOf`` with ``null`` beside it (:func:`or_null`)."""


def or_null(schema: dict[str, Any]) -> None:
    """Let a property's JSON schema take null as well; for `json_schema_extra`."""
    said: dict[str, Any] = {key: schema.pop(key) for key in ("description", "default", "examples") if key in schema}
    plain = dict(schema)
    schema.clear()
    schema.update(said, anyOf=[plain, {"type": "null"}])


def mistake(problem: str, **more: str) -> PydanticCustomError:
    """Return what a validator raises.

    Parameters
    ----------
    problem : str
        What is wrong, as a predicate of the key: ``names a server twice``.
    **more : str
        ``at``: the key within the value that it is about. ``wanted``, ``found``, ``allowed``, ``todo``: as for
        :class:`~affectlake.errors.AffectlakeError`; the value itself is shown only as `found`.
    """
    return PydanticCustomError("mistake", "{problem}", {"problem": problem, **more})


def check(kind: Any, value: object, name: str = "", within: str = "") -> Any:
    """Return `value` as a `kind`.

    Parameters
    ----------
    kind : type
        A :class:`Strict` model, or an annotation of such models.
    value : object
        As YAML gave it.
    name : str
        What to call the whole in messages: a file's path. May be empty.
    within : str
        The path of `value` in it.

    Raises
    ------
    UsageError
        For all that does not fit, in one message.
    """
    found, mistakes = examine(kind, value, within)
    if mistakes:
        raise refusal(name, mistakes)
    return found


def examine(kind: Any, value: object, within: str = "") -> tuple[Any, list[Mistake]]:
    """Return `value` as a `kind` (None if it does not fit), and every mistake in it."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value), []
    except ValidationError as error:
        return None, mistakes_of(error, json_schema(kind), within)


class _Plain(GenerateJsonSchema):
    """Without the titles that repeat the keys."""

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
