"""The result of parsing an answer, and what several readers of answers share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Reason = Literal[
    "empty",
    "truncated",
    "refusal",
    "other_language",
    "no_key_phrase",
    "no_position",
    "several",
    "none_differs",
    "out_of_range",
]
"""Why there is no position.

``empty``: only blanks. ``truncated``: the answer ends before its choice. ``refusal``: the model declines.
``other_language``: most letters are not Latin. ``no_key_phrase``: the phrase that the protocol asks for is missing.
``no_position``: the phrase does not refer to a particular video, or the answer has no word or field that the protocol
asks for. ``several``: it refers to different videos.
``none_differs``: none or all of the videos are said to differ. ``out_of_range``: the number is 0 or larger than 3.
"""


class Parsed(NamedTuple):
    """The result of parsing an answer.

    Attributes
    ----------
    position : int or None
        1, 2 or 3: the position chosen, as shown.
    reason : Reason or None
        Why there is no position; None if there is one.
    """

    position: int | None
    reason: Reason | None


MARKUP = str.maketrans(dict.fromkeys('*_`"“”‘<>+#[]{}|~', " ") | {"’": "'"})
"""Table by which Markdown and quotation marks become blanks."""

SENTENCE = re.compile(r"(?<=[.!?。！？;])(?:\s+|(?=[A-Z]))|\n+")
_ABBREVIATION = re.compile(r"\b(no)\.\s*(?=\d)", re.IGNORECASE)


def agreed(claims: Iterable[int]) -> Parsed:
    """Return the position that all claims name."""
    different = set(claims)
    if len(different) > 1:
        return Parsed(None, "several")
    (position,) = different
    return Parsed(position, None) if 1 <= position <= 3 else Parsed(None, "out_of_range")


def plain_text(answer: str) -> str:
    """Return an answer without Markdown and quotation marks."""
    return _ABBREVIATION.sub(r"\1 ", answer.translate(MARKUP))


def sentences_of(answer: str) -> list[str]:
    """Return the sentences of an answer, without Markdown and quotation marks."""
    return [sentence for sentence in SENTENCE.split(plain_text(answer)) if sentence.strip()]
