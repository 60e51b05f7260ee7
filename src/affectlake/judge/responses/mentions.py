"""Mentions of stimuli in an answer: by a noun and a label, a number or an ordinal."""

from __future__ import annotations

import re

from affectlake.judge.protocols.readings import NUMBERS, Labels

_NUMBERS = {
    "1": 1, "one": 1, "first": 1, "1st": 1,
    "2": 2, "two": 2, "second": 2, "2nd": 2, "ii": 2,
    "3": 3, "three": 3, "third": 3, "3rd": 3, "iii": 3, "last": 3, "final": 3,
    "4": 4, "four": 4, "fourth": 4, "0": 0, "zero": 0,
}  # fmt: skip

_CARDINALS = r"\d+|one|two|three|four|iii|ii|zero"
_ORDINAL = r"(?:first|second|third|fourth|1st|2nd|3rd|last|final)"


class Mentions:
    """How stimuli are mentioned: by a noun and a label, a number or an ordinal.

    Attributes
    ----------
    mention, aside, number : re.Pattern
        One mention, a mention in a comparison, and one label or number in a mention.
    bare : re.Pattern
        A sentence that is only a label or number.
    """

    def __init__(self, noun: str, labels: Labels) -> None:
        thing = rf"(?:{noun})"
        own = "" if labels == NUMBERS else f"(?-i:{'|'.join(map(re.escape, sorted(labels, key=len, reverse=True)))})|"
        cardinal = rf"(?:{own}{_CARDINALS})"
        next_one = rf"(?:{thing}\s*)?{cardinal}\b"
        more = rf"(?:(?:\s*,\s*{next_one})*\s*,?\s*(?:and|or|&)\s*{next_one})?"
        mention = (
            rf"\b{thing}\s*(?:clip|video)?\s*(?:id|number|no\.?|index)?\s*[:=\-(#]*\s*"
            rf"(?P<cardinals>{cardinal}\b{more})"
            rf"|\b(?P<ordinals>{_ORDINAL}(?:\s*(?:,|and|&|or)\s*(?:the\s+)?{_ORDINAL})*)\s+{thing}\b"
            rf"|\bthe\s+(?P<bare>first|second|third|last)(?=\s+is\b|\s*$)"
        )
        self._labels = {} if labels == NUMBERS else {label: at for at, label in enumerate(labels, start=1)}
        self.mention = re.compile(mention, re.IGNORECASE)
        self.aside = re.compile(
            r"\b(?:unlike|like|than|(?:compared|relative|similar|identical) (?:to|with)|in contrast (?:to|with)|"
            rf"as opposed to|versus|not)\s+(?:the\s+)?(?:{mention})",
            re.IGNORECASE,
        )
        self.number = re.compile(rf"(?<!\w)(?:{own}(?:{_CARDINALS})|{_ORDINAL})\b", re.IGNORECASE)
        self.bare = re.compile(rf"\s*(?:answer:?\s*)?({cardinal})\s*[.!]?\s*", re.IGNORECASE)

    def numbers(self, mention: re.Match[str]) -> list[int]:
        """Return the positions that a mention names."""
        words = next(group for group in mention.groupdict().values() if group)
        return [self.position(word) for word in self.number.findall(words)]

    def position(self, word: str) -> int:
        """Return the position that a label or number names; 0 or 4 if it is not one of the three."""
        return self._labels.get(word) or _NUMBERS.get(word.lower(), 4)
