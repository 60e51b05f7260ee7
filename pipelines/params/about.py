"""The ``about`` section of ``params.yaml``: what a lake is, for its README, citations and archives.

No step reads it, so that a change of it makes no stage stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from affectlake.pipelines.params.text import value_at
from affectlake.validation import UNIQUE, Strict, Text


class About(Strict):
    """What the lake is, who made it, and under which licence its content may be used."""

    title: Text | None = Field(default=None, description="Title of the data.", examples=["Judgments of films"])
    creators: Annotated[list[Text], UNIQUE] = Field(
        default_factory=list,
        description="Who made the data, in the order of the citation: family name, given names.",
        examples=[["Curie, Marie", "Noether, Emmy"]],
        json_schema_extra={"uniqueItems": True},
    )
    licence: Text | None = Field(
        default=None, description="Licence of the content, best as an SPDX identifier.", examples=["CC-BY-4.0"]
    )
    description: Text | None = Field(default=None, description="What the data are, in one paragraph.")


class Described(NamedTuple):
    """The same of a version, as far as its ``params.yaml`` states it; missing texts are empty."""

    title: str
    creators: tuple[str, ...]
    licence: str
    description: str


def described(raw: Mapping[str, Any]) -> Described:
    """Return what a parsed ``params.yaml`` states about the lake; malformed values are ignored.

    The title is that of the study if there is none.
    """
    title, licence, description = (_text(raw, key) for key in ("about.title", "about.licence", "about.description"))
    names = value_at(raw, "about.creators")
    creators = tuple(one for one in names if isinstance(one, str)) if isinstance(names, list) else ()
    study = _text(raw, "study")
    return Described(title or f"affectlake study {study}".rstrip(), creators, licence, description)


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = value_at(raw, key)
    return value if isinstance(value, str) else ""
