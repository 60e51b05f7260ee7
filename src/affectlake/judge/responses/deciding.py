"""The words of an answer that decide how it is read: without one of them, it would be read otherwise.

Nothing about the rules of reading is repeated here: words are removed one at a time, and the answer is read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.responses.parsed import Parsed
from affectlake.judge.responses.parsing import parse

MOST_WORDS = 400
"""Number of words of a passage beyond which none of it is marked."""

_CJK = "\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[\w'’])+")
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")


class Span(NamedTuple):
    """A part of an answer: the characters from `start` to `end`, which is not included."""

    start: int
    end: int


def deciding_words(text: str, asking: Protocol, *, cut_off: bool = False) -> list[Span]:
    """Return the words on which the reading of an answer depends.

    A sentence that is read as the whole answer is, is examined alone, so that an answer that states its choice twice
    has marks in both places. If there is no such sentence, the whole answer is examined. A word is marked if the
    passage is read otherwise when blanks are in its place.

    Parameters
    ----------
    text : str
        The answer, verbatim.
    asking : Protocol
        The protocol to which it is an answer.
    cut_off : bool
        Whether it was truncated at the token limit.

    Returns
    -------
    list of Span
        In order, without overlaps; words with only blanks between them are one span. Empty if no single word decides,
        for example because the answer is empty, or lacks what the protocol asks for.
    """
    whole = parse(text, asking, cut_off=cut_off)
    alike = [one for one in _sentences(text) if parse(text[one.start : one.end], asking, cut_off=cut_off) == whole]
    if whole.position is None and whole.reason not in ("refusal", "none_differs", "out_of_range"):
        alike = []  # each sentence without the words that the protocol asks for is read alike
    found: list[Span] = []
    for passage in alike or [Span(0, len(text))]:
        found += _of_passage(text[passage.start : passage.end], passage.start, whole, asking, cut_off)
    return _joined(found, text)


def _of_passage(passage: str, offset: int, whole: Parsed, asking: Protocol, cut_off: bool) -> Iterator[Span]:
    words = list(_WORD.finditer(passage))
    if len(words) > MOST_WORDS:
        return
    for word in words:
        without = passage[: word.start()] + " " * len(word[0]) + passage[word.end() :]
        if parse(without, asking, cut_off=cut_off) != whole:
            yield Span(offset + word.start(), offset + word.end())


def _sentences(text: str) -> list[Span]:
    return [Span(found.start(), found.end()) for found in _SENTENCE.finditer(text) if found[0].strip()]


def _joined(spans: list[Span], text: str) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        if found and not text[found[-1].end : span.start].strip():
            found[-1] = Span(found[-1].start, span.end)
        else:
            found.append(span)
    return found
