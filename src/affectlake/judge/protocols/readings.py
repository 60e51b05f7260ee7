"""How the answer to a protocol is read: the section ``answer`` of a protocol file.

The answers are read in :mod:`affectlake.judge.responses.parsing`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from affectlake.validation import Strict, Text, mistake

PHRASE = r"\bnoticeably\s+different\b"
NOUN = r"(?:videos?|clips?|images?|pictures?|descriptions?|captions?|ones?|objects?)"

Labels: TypeAlias = tuple[str, str, str]
NUMBERS: Labels = ("1", "2", "3")


def _regular_expression(text: str) -> str:
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise mistake(f"is not a regular expression: {error}", found=repr(text)) from error
    if pattern.search(""):
        raise mistake("matches an empty text, and therefore every answer", found=repr(text))
    if pattern.groupindex:
        raise mistake("has a named group", found=repr(text), todo="use (?:…) in place of (?P<name>…)")
    return text


Pattern = Annotated[Text, AfterValidator(_regular_expression)]


class KeyPhrase(Strict):
    """The stimulus of which a phrase is said: "Video 2 is noticeably different"."""

    read: Literal["key-phrase"]
    phrase: Pattern = Field(default=PHRASE, description="Regular expression of the phrase; case is ignored.")
    noun: Pattern = Field(
        default=NOUN, description="Regular expression of what a stimulus is called before its label; case is ignored."
    )


class Location(Strict):
    """The place of the stimulus: left, middle or right, or its label."""

    read: Literal["location"]
    noun: Pattern = Field(
        default=NOUN, description="Regular expression of what a stimulus is called before its label; case is ignored."
    )


class OneToken(Strict):
    """One of the labels, and nothing else; the log-probabilities of the labels are stored."""

    read: Literal["one-token"]


def _three_lists(words: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    lower = [[word.strip().lower() for word in some] for some in words]
    for at, some in enumerate(lower):
        for other in lower[at + 1 :]:
            if shared := [word for word in some if word in other]:
                raise mistake(f"has {shared[0]!r} for two positions", wanted="each word for one position")
    return words


class PositionWords(Strict):
    """The position that words of a list name; words for different positions are not a choice."""

    read: Literal["position-words"]
    words: Annotated[
        tuple[Annotated[tuple[Text, ...], Field(strict=False, min_length=1)], ...], AfterValidator(_three_lists)
    ] = Field(
        strict=False,
        min_length=3,
        max_length=3,
        description="Three lists: the words for the first, the second and the third position; case is ignored.",
        examples=[[["left"], ["middle"], ["right"]]],
    )


class JsonField(Strict):
    """A field of a JSON object: a label, or the number of the position."""

    read: Literal["json-field"]
    field: Text = Field(description="Name of the field.")


Reading: TypeAlias = KeyPhrase | Location | OneToken | PositionWords | JsonField
AnyReading = Annotated[Reading, Field(discriminator="read")]
