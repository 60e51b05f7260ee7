"""Parsing of answers: from the text of an answer to a position, or to the reason why there is none.

All functions are pure and take one answer. Nothing is guessed: an answer that does not give exactly one position is not
a choice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from affectlake.judge.protocols.labels import bare, label_in
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.protocols.readings import (
    NUMBERS,
    PHRASE,
    JsonField,
    KeyPhrase,
    Labels,
    Location,
    OneToken,
    PositionWords,
    Reading,
)
from affectlake.judge.responses.languages import in_english_words

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
    answer = _without_thoughts(text)
    if answer is None:
        return Parsed(None, "truncated")
    if not answer.strip():
        return Parsed(None, "truncated" if cut_off and text.strip() else "empty")
    found = _reader(asking.answer, asking.labels)(answer)
    if found.position is None and found.reason in ("no_key_phrase", "no_position"):
        if _REFUSAL.search(answer):
            return Parsed(None, "refusal")
        if cut_off:
            return Parsed(None, "truncated")
        if found.reason == "no_key_phrase" and _mostly_not_latin(answer):
            return Parsed(None, "other_language")
    return found


_NUMBERS = {
    "1": 1, "one": 1, "first": 1, "1st": 1,
    "2": 2, "two": 2, "second": 2, "2nd": 2, "ii": 2,
    "3": 3, "three": 3, "third": 3, "3rd": 3, "iii": 3, "last": 3, "final": 3,
    "4": 4, "four": 4, "fourth": 4, "0": 0, "zero": 0,
}  # fmt: skip

_CARDINALS = r"\d+|one|two|three|four|iii|ii|zero"
_ORDINAL = r"(?:first|second|third|fourth|1st|2nd|3rd|last|final)"


class _Mentions:
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


REACH = 300
"""Number of characters before and after the key phrase in which the video is looked for."""

_RARE_WORD = re.compile("[nN](?:oticeably|OTICEABLY)")
_NEGATION = re.compile(
    r"(?:\b(?:not|cannot|never|hardly|neither|nor|no(?:body| one)|nothing|anything but|few (?:people|viewers|of us)|"
    r"without|lacks?|lacking|fail(?:s|ed|ing)? to)|n't)\b"
    r"(?!\s+(?:only|just|merely|simply|(?:be\s+)?(?:any\s+)?more|(?:(?:a|any)\s+)?(?:doubt|question))\b)"
    r"|\bno more\b(?=\s*$)|\bno\b(?=\s+(?:emotion|emotional|response|feeling|reaction)s?\b)",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:i|we|you|one)\s+(?:(?:would|do|strongly|really|highly)\s+)*doubt\b"
    r"|\b(?:wrong|incorrect|false|untrue|unlikely|impossible)\s+(?:to\s+(?:say|claim|think|call)|that)\b",
    re.IGNORECASE,
)
_HYPOTHESIS = re.compile(r"\b(?:if|unless|whether)\b", re.IGNORECASE)
_OTHER_CLAUSE = re.compile(
    r"[,:()–—]|\s-\s|\b(?:and|but|or|so|yet|while|whilst|whereas|because|since|as|although|though|however|instead|"
    r"therefore|thus|hence|making|makes)\b",
    re.IGNORECASE,
)
_OF_OPINION = re.compile(
    r"\s*(?:\w+\s+){0,2}?(?:think|thought|believe|feel|find|found|say|said|claim|consider|call|see|agree|sure|certain|clear|"
    r"convinced|persuaded|obvious|evident|true|the case)\b",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"^\W*(?:oh,?\s+|no,?\s+|but\s+|hmm,?\s+)*(?:wait|actually|correction|i mean|scratch that|let me correct|"
    r"i correct myself|on (?:second thoughts?|reflection)|upon reflection|sorry,)(?!\w)",
    re.IGNORECASE,
)
_ALSO = re.compile(r"(?:[\s,]*(?:and\s+(?:also|likewise)|as\s+well\s+as)|\s*and)\s+(?:the\s+)?", re.IGNORECASE)
_RELATIVE = re.compile(r"\s*(?:that|which|who)\b", re.IGNORECASE)
_NONE = re.compile(
    r"\b(?:none|neither|no\s+(?:one\s+)?(?:single\s+)?(?:video|clip))\b|\b(?:all|each)\b[^.]{0,40}$", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?。！？;])(?:\s+|(?=[A-Z]))|\n+")
_ABBREVIATION = re.compile(r"\b(no)\.\s*(?=\d)", re.IGNORECASE)
_OTHERS = re.compile(
    r"^\s*(?:from|than|to|compared)\b[^:.?!]*?(?:other\s+two|others|other\s+(?:videos|clips)|rest)", re.IGNORECASE
)
_ECHO = re.compile(r"(?<!, )\b(?:which|tell me|answer format|video id is noticeably)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i['’]?m sorry|i am sorry|i apologi[sz]e|i (?:can(?:no|['’])t|am unable|['’]?m unable|won['’]?t|do not have "
    r"the ability|don['’]t have the ability)|as an ai\b|unable to (?:view|watch|see|determine|perceive|judge))",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)
_MARKUP = str.maketrans(dict.fromkeys('*_`"“”‘<>+#[]{}|~', " ") | {"’": "'"})


def _without_thoughts(text: str) -> str | None:
    """Return the text outside ``<think>``; None if the reasoning is not finished."""
    answer = _THOUGHT.sub(" ", text) if "think>" in text else text
    return None if "<think>" in answer else answer


class _KeyPhrase:
    """Reader of answers that name a stimulus together with a phrase."""

    def __init__(self, reading: KeyPhrase, labels: Labels) -> None:
        self._phrase = re.compile(reading.phrase, re.IGNORECASE)
        self._is_default = reading.phrase == PHRASE
        self._rare = _RARE_WORD if self._is_default else self._phrase
        self._mentions = _Mentions(reading.noun, labels)

    def __call__(self, answer: str) -> Parsed:
        claims: list[int] = []
        said = none = corrects = False
        sentences = _sentences(self._near_phrase(in_english_words(answer) if self._is_default else answer))
        for at, sentence in enumerate(sentences):
            phrases = list(self._phrase.finditer(sentence))
            corrects = corrects or (not phrases and bool(_CORRECTION.search(sentence)))
            start = 0
            for number, phrase in enumerate(phrases):
                before, start = sentence[start : phrase.start()], phrase.end()
                rest = sentence[phrase.end() : phrases[number + 1].start() if number + 1 < len(phrases) else None]
                following = sentences[at + 1] if at + 1 < len(sentences) else ""
                said = True
                denied, nothing = self._is_denied(before, rest), bool(_NONE.search(before))
                if denied and not nothing:
                    continue
                found = [] if denied else self._subject(before, rest, following)
                if found and (corrects or _CORRECTION.search(before)):
                    claims, corrects = [], False
                none = none or (not found and nothing)
                claims += found
        if claims:
            return _agreed(claims)
        if none:
            return Parsed(None, "none_differs")
        return Parsed(None, "no_position" if said else "no_key_phrase")

    def _is_denied(self, before: str, rest: str) -> bool:
        """Return whether the words around a phrase deny it, doubt it or ask for it.

        A negation denies it in the same clause, as its last one. A stimulus that is mentioned after the negation begins
        a new clause ("Unlike the others which do not evoke fear Video 3 is …"), except after words of opinion ("I do
        not think Video 3 is …") and before a relative clause ("It is not Video 3 that is …").
        """
        doubt = _DOUBT.search(before)
        if doubt and not _OTHER_CLAUSE.search(before[doubt.end() :]):
            return True
        mentions = list(self._mentions.mention.finditer(before))
        if mentions and not self._asks(before) and rest.rstrip().endswith("?"):
            return True
        if any(
            "," not in before[found.end() : mentions[0].start()] for found in _HYPOTHESIS.finditer(before) if mentions
        ):
            return True
        for found in _NEGATION.finditer(before):
            clause = before[found.end() :]
            if _OTHER_CLAUSE.search(clause):
                continue
            both = found.group().lower() in ("neither", "nor")
            named = self._mentions.mention.search(clause)
            if both or not named or _OF_OPINION.match(clause) or _RELATIVE.match(clause[named.end() :]):
                return True
        return False

    def _asks(self, before: str) -> bool:
        """Return whether the words before a phrase are the question: "which" that does not refer to a stimulus."""
        ends = {found.end() for found in self._mentions.mention.finditer(before)}
        return any(len(before[: found.start()].rstrip()) not in ends for found in _ECHO.finditer(before))

    def _near_phrase(self, answer: str) -> str:
        """Return the text around each mention of the phrase; the rest of a long answer is not parsed."""
        windows: list[list[int]] = []
        for found in self._rare.finditer(answer):
            low, high = max(0, found.start() - REACH), found.start() + REACH
            if windows and low <= windows[-1][1]:
                windows[-1][1] = high
            else:
                windows.append([low, high])
        return "\n".join(answer[low:high] for low, high in windows)

    def _subject(self, before: str, rest: str, following: str) -> list[int]:
        """Return the numbers of the stimuli to which the phrase in a sentence refers."""
        found = self._mentions
        asked = self._asks(before)
        mentions = [] if asked else list(found.mention.finditer(found.aside.sub(" ", before)))
        if mentions:
            return [number for one in _joined(mentions) for number in found.numbers(one)]
        if _NONE.search(before):
            return []
        others = _OTHERS.match(rest)
        tail = rest[others.end() :] if others else rest
        if not others and re.match(r"\s*(?:from|than|to|compared)\b", rest, re.IGNORECASE):
            tail = ""  # "noticeably different from Video 1" does not give the video that differs
        first = found.mention.search(tail)
        answered = rest.rstrip().endswith((":", "?"))
        if first is None and (asked or answered):
            first = found.mention.search(following[:40])
            if first and following[first.end() :].lstrip().startswith(":"):
                first = None  # the first line of a list of all videos
            alone = found.bare.fullmatch(following) if answered else None
            if first is None and alone:
                return [found.position(alone.group(1))]
        return found.numbers(first) if first else []


def _joined(mentions: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the last mention, with those before it that are joined to it ("Video 1, and also Video 3")."""
    first = len(mentions) - 1
    while first and _ALSO.fullmatch(mentions[first].string[mentions[first - 1].end() : mentions[first].start()]):
        first -= 1
    return mentions[first:]


def _agreed(claims: Iterable[int]) -> Parsed:
    different = set(claims)
    if len(different) > 1:
        return Parsed(None, "several")
    (position,) = different
    return Parsed(position, None) if 1 <= position <= 3 else Parsed(None, "out_of_range")


def _sentences(answer: str) -> list[str]:
    plain = _ABBREVIATION.sub(r"\1 ", answer.translate(_MARKUP))
    return [sentence for sentence in _SENTENCE.split(plain) if sentence.strip()]


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
        self._mentions = _Mentions(reading.noun, labels)

    def __call__(self, answer: str) -> Parsed:
        plain = _ABBREVIATION.sub(r"\1 ", answer.translate(_MARKUP))
        places = [_PLACES[next(filter(None, found.groups())).lower()] for found in _PLACE.finditer(plain)]
        if not places:
            mention = self._mentions.mention.search(plain)
            places = self._mentions.numbers(mention) if mention else []
        return _agreed(places) if places else Parsed(None, "no_position")


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
        found = [self._positions[_plain(word)] for word in self._words.findall(answer.translate(_MARKUP))]
        return _agreed(found) if found else Parsed(None, "no_position")


def _plain(word: str) -> str:
    return " ".join(word.translate(_MARKUP).lower().split())


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
        return Parsed(None, "no_position") if None in positions else _agreed(filter(None, positions))

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
    KeyPhrase: _KeyPhrase,
    Location: _Location,
    OneToken: _OneToken,
    PositionWords: _PositionWords,
    JsonField: _JsonField,
}


@cache
def _reader(reading: Reading, labels: Labels) -> Callable[[str], Parsed]:
    return _READERS[type(reading)](reading, labels)


def _mostly_not_latin(answer: str) -> bool:
    letters = [letter for letter in answer if letter.isalpha()]
    return bool(letters) and sum(letter > "ɏ" for letter in letters) > len(letters) / 2
