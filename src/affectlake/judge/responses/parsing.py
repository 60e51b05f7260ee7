"""Parsing of answers: from the text of an answer to a position, or to the reason why there is none.

All functions are pure and take one answer. Nothing is guessed: an answer that does not give exactly one position is not
a choice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from affectlake.judge.protocols.labels import bare, label_in
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.protocols.readings import (
    NUMBERS,
    JsonField,
    KeyPhrase,
    Labels,
    Location,
    OneToken,
    PositionWords,
    Reading,
)
from affectlake.judge.responses.key_phrase import KeyPhraseReader
from affectlake.judge.responses.mentions import Mentions
from affectlake.judge.responses.parsed import MARKUP, Parsed, agreed, plain_text


def parse(text: str, asking: Protocol, *, cut_off: bool = False) -> Parsed:
    """Return the position that an answer gives, or the reason why it does not give one.

    Parameters
    ----------
    text : str
        The answer, verbatim.
    asking : Protocol
        The protocol; its section ``answer`` is how answers are parsed.

        ``key-phrase``: the paper's rule, "regular expressions matching the key phrase 'noticeably different'". In each
        sentence with the phrase, the phrase refers to the last video mentioned before it other than in a comparison
        ("Video 1 and 3 are calm, while Video 2, unlike Video 3, is noticeably different"), or, if there is none, to the
        first video mentioned after it ("the one that is noticeably different is Video 2"). Two videos joined by "and"
        are two claims. A claim whose clause is negated is not one ("Video 1 does not evoke a response that is
        noticeably different"), nor is a question, a condition or a doubt. A sentence that begins with a correction
        ("Wait, …", "On reflection, …") takes the place of what was claimed before. German and Chinese answers are
        read likewise (:mod:`affectlake.judge.responses.languages`). All claims must agree.

        ``location``: the place of the object chosen, by its label or as left, middle, right; all claims must agree.

        ``one-token``: the answer is only one of the labels, as plain text or as JSON.

        ``position-words``: all words of the protocol's lists that the answer contains belong to one position.

        ``json-field``: the field of the JSON objects in the answer is a label or the number of a position; all objects
        with the field must agree.
    cut_off : bool
        Whether the answer was truncated at the token limit.

    Notes
    -----
    The reasoning before ``</think>`` is not part of the answer. Except in JSON, Markdown, quotation marks and the ``+``
    and ``_`` of "Video+ID" are read as blanks.
    """
    answer = without_thoughts(text)
    if answer is None:
        return Parsed(None, "truncated")
    if not answer.strip():
        return Parsed(None, "truncated" if cut_off and text.strip() else "empty")
    found = _reader(asking.answer, asking.labels)(answer)
    if found.position is None and found.reason in ("no_key_phrase", "no_position"):
        if REFUSAL.search(answer):
            return Parsed(None, "refusal")
        if cut_off:
            return Parsed(None, "truncated")
        if found.reason == "no_key_phrase" and mostly_not_latin(answer):
            return Parsed(None, "other_language")
    return found


REFUSAL = re.compile(
    r"\b(?:i['’]?m sorry|i am sorry|i apologi[sz]e|i (?:can(?:no|['’])t|am unable|['’]?m unable|won['’]?t|do not have "
    r"the ability|don['’]t have the ability)|as an ai\b|unable to (?:view|watch|see|determine|perceive|judge))",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)


def without_thoughts(text: str) -> str | None:
    """Return the text outside ``<think>``; None if the reasoning is not finished."""
    answer = _THOUGHT.sub(" ", text) if "think>" in text else text
    return None if "<think>" in answer else answer


_PLACES = {"left": 1, "leftmost": 1, "middle": 2, "center": 2, "centre": 2, "right": 3, "rightmost": 3}
_PLACE = re.compile(
    r"\b(?:on|to|in|at|is)\s+(?:the\s+)?(?:far\s+)?(left|middle|cent(?:er|re)|right)\b"
    r"|\b(leftmost|rightmost|middle|cent(?:er|re)|left|right)[\s-]*(?:hand)?\s*(?:side|image|video|object|one|picture)"
    r"|^\W*(left|middle|cent(?:er|re)|right)\b",
    re.IGNORECASE | re.MULTILINE,
)


class _Location:
    """Reader of answers that give a place."""

    def __init__(self, reading: Location, labels: Labels) -> None:
        self._mentions = Mentions(reading.noun, labels)

    def __call__(self, answer: str) -> Parsed:
        plain = plain_text(answer)
        places = [_PLACES[next(filter(None, found.groups())).lower()] for found in _PLACE.finditer(plain)]
        if not places:
            mention = self._mentions.mention.search(plain)
            places = self._mentions.numbers(mention) if mention else []
        return agreed(places) if places else Parsed(None, "no_position")


class _OneToken:
    """Reader of answers that are a label."""

    def __init__(self, _reading: OneToken, labels: Labels) -> None:
        self._labels = labels

    def __call__(self, answer: str) -> Parsed:
        label = label_in(answer, self._labels)
        if label is not None:
            return Parsed(self._labels.index(label) + 1, None)
        return Parsed(None, "out_of_range" if bare(answer).isdigit() else "no_position")


class _PositionWords:
    """Reader of answers that name a position by a word of a list."""

    def __init__(self, reading: PositionWords, _labels: Labels) -> None:
        self._positions = {_plain(word): at for at, words in enumerate(reading.words, start=1) for word in words}
        longest_first = sorted(self._positions, key=len, reverse=True)
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(map(_spaced, longest_first))})(?!\w)", re.IGNORECASE)

    def __call__(self, answer: str) -> Parsed:
        found = [self._positions[_plain(word)] for word in self._words.findall(answer.translate(MARKUP))]
        return agreed(found) if found else Parsed(None, "no_position")


def _plain(word: str) -> str:
    return " ".join(word.translate(MARKUP).lower().split())


def _spaced(word: str) -> str:
    return r"\s+".join(map(re.escape, word.split()))


class _JsonField:
    """Reader of answers that are, or contain, a JSON object with a field."""

    def __init__(self, reading: JsonField, labels: Labels) -> None:
        self._field = reading.field
        self._positions = {label.strip().lower(): at for at, label in enumerate(labels, start=1)}

    def __call__(self, answer: str) -> Parsed:
        values = [found[self._field] for found in _json_objects(answer) if self._field in found]
        if not values:
            return Parsed(None, "no_position")
        positions = [self._position(value) for value in values]
        return Parsed(None, "no_position") if None in positions else agreed(filter(None, positions))

    def _position(self, value: object) -> int | None:
        """Return the position that a value gives, 4 for a number of none of the three, None for other values."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        word = value.strip().lower() if isinstance(value, str) else f"{value:g}"
        if word in self._positions:
            return self._positions[word]
        if isinstance(value, str) and not word.isdigit():
            return None
        return int(word) if word in NUMBERS else 4


def _json_objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects in a text, outermost ones only."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield found
        at = text.find("{", end)


_READERS: dict[type[Reading], Callable[[Any, Labels], Callable[[str], Parsed]]] = {
    KeyPhrase: KeyPhraseReader,
    Location: _Location,
    OneToken: _OneToken,
    PositionWords: _PositionWords,
    JsonField: _JsonField,
}


@cache
def _reader(reading: Reading, labels: Labels) -> Callable[[str], Parsed]:
    return _READERS[type(reading)](reading, labels)


def mostly_not_latin(answer: str) -> bool:
    """Return whether more than half of an answer's letters are not Latin."""
    letters = [letter for letter in answer if letter.isalpha()]
    return bool(letters) and sum(letter > "ɏ" for letter in letters) > len(letters) / 2
