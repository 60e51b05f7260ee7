"""Parsing of answers: from the text of an answer to a position, or to the reason why there is none.

All functions are pure and take one answer. Nothing is guessed: an answer that does not give exactly one position is not
a choice.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from affectlake.judge.protocols import CHOICES, Reading

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
``no_position``: the phrase does not refer to a particular video. ``several``: it refers to different videos.
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


class Probabilities(NamedTuple):
    """Probabilities of the positions, from the log-probabilities of a one-token answer.

    Attributes
    ----------
    p1, p2, p3 : float
        Probability of each position, renormalised to sum to 1.
    leftover : float
        Probability of all other tokens.
    """

    p1: float
    p2: float
    p3: float
    leftover: float


def parse(text: str, reading: Reading, *, cut_off: bool = False) -> Parsed:
    """Return the position that an answer gives, or the reason why it does not give one.

    Parameters
    ----------
    text : str
        The answer, verbatim.
    reading : {'key-phrase', 'location', 'one-token'}
        How answers to the protocol are parsed.

        ``key-phrase``: the paper's rule, "regular expressions matching the key phrase 'noticeably different'". In each
        sentence with the phrase, the phrase refers to the last video mentioned before it other than in a comparison
        ("Video 1 and 3 are calm, while Video 2, unlike Video 3, is noticeably different"), or, if there is none, to the
        first video mentioned after it ("the one that is noticeably different is Video 2"). Two videos joined by "and"
        are two claims. All claims must agree.

        ``location``: the place of the object chosen, by number or as left, middle, right; all claims must agree.

        ``one-token``: the answer is only 1, 2 or 3.
    cut_off : bool
        Whether the answer was truncated at the token limit.

    Notes
    -----
    The reasoning before ``</think>`` is not part of the answer. Markdown, quotation marks and the ``+`` and ``_`` of
    "Video+ID" are read as blanks.
    """
    answer = _without_thoughts(text)
    if answer is None:
        return Parsed(None, "truncated")
    if not answer.strip():
        return Parsed(None, "truncated" if cut_off and text.strip() else "empty")
    found = _READINGS[reading](answer)
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

_THING = r"(?:videos?|clips?|images?|pictures?|descriptions?|captions?|ones?|objects?)"
_CARDINAL = r"(?:\d+|one|two|three|four|iii|ii|zero)"
_ORDINAL = r"(?:first|second|third|fourth|1st|2nd|3rd|last|final)"
_NEXT = rf"(?:{_THING}\s*)?{_CARDINAL}\b"
_MORE = rf"(?:(?:\s*,\s*{_NEXT})*\s*,?\s*(?:and|or|&)\s*{_NEXT})?"
_MENTION = re.compile(
    rf"\b{_THING}\s*(?:clip|video)?\s*(?:id|number|no\.?|index)?\s*[:=\-(#]*\s*"
    rf"(?P<cardinals>{_CARDINAL}\b{_MORE})"
    rf"|\b(?P<ordinals>{_ORDINAL}(?:\s*(?:,|and|&|or)\s*(?:the\s+)?{_ORDINAL})*)\s+{_THING}\b"
    rf"|\bthe\s+(?P<bare>first|second|third|last)(?=\s+is\b|\s*$)",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\b(?:unlike|like|than|(?:compared|relative|similar|identical) (?:to|with)|in contrast (?:to|with)|as opposed to|"
    rf"versus)\s+(?:the\s+)?(?:{_MENTION.pattern})",
    re.IGNORECASE,
)
_NUMBER = re.compile(rf"\b(?:{_CARDINAL}|{_ORDINAL})\b", re.IGNORECASE)

REACH = 300
"""Number of characters before and after the key phrase in which the video is looked for."""

_RARE_WORD = re.compile("[nN](?:oticeably|OTICEABLY)")
_PHRASE = re.compile(r"\bnoticeably\s+different\b", re.IGNORECASE)
_NEGATED = re.compile(
    r"\b(?:not|n't|isn't|aren't|never|hardly|neither|nor|without being)\s*(?:\w+\s+){0,3}$", re.IGNORECASE
)
_NONE = re.compile(
    r"\b(?:none|neither|no\s+(?:one\s+)?(?:single\s+)?(?:video|clip))\b|\b(?:all|each)\b[^.]{0,40}$", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?。！？;])(?:\s+|(?=[A-Z]))|\n+")
_ABBREVIATION = re.compile(r"\b(no)\.\s*(?=\d)", re.IGNORECASE)
_OTHERS = re.compile(
    r"^\s*(?:from|than|to|compared)\b[^:.?!]*?(?:other\s+two|others|other\s+(?:videos|clips)|rest)", re.IGNORECASE
)
_ECHO = re.compile(r"\b(?:which|tell me|answer format|video id is noticeably)\b", re.IGNORECASE)
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


def _key_phrase(answer: str) -> Parsed:
    claims: list[int] = []
    said = none = False
    sentences = _sentences(_near_phrase(answer))
    for at, sentence in enumerate(sentences):
        phrases = list(_PHRASE.finditer(sentence))
        start = 0
        for number, phrase in enumerate(phrases):
            before, start = sentence[start : phrase.start()], phrase.end()
            rest = sentence[phrase.end() : phrases[number + 1].start() if number + 1 < len(phrases) else None]
            following = sentences[at + 1] if at + 1 < len(sentences) else ""
            said = True
            if _NEGATED.search(before) and not _NONE.search(before):
                continue
            found = _subject(before, rest, following)
            none = none or (not found and bool(_NONE.search(before)))
            claims += found
    if claims:
        return _agreed(claims)
    if none:
        return Parsed(None, "none_differs")
    return Parsed(None, "no_position" if said else "no_key_phrase")


def _near_phrase(answer: str) -> str:
    """Return the text around each mention of the phrase; the rest of a long answer is not parsed."""
    starts = [found.start() for found in _RARE_WORD.finditer(answer)]
    windows: list[list[int]] = []
    for start in starts:
        low, high = max(0, start - REACH), start + REACH
        if windows and low <= windows[-1][1]:
            windows[-1][1] = high
        else:
            windows.append([low, high])
    return "\n".join(answer[low:high] for low, high in windows)


def _subject(before: str, rest: str, following: str) -> list[int]:
    """Return the numbers of the videos to which the phrase in a sentence refers."""
    asked = bool(_ECHO.search(before))
    mentions = [] if asked else list(_MENTION.finditer(_ASIDE.sub(" ", before)))
    if mentions:
        return _numbers(mentions[-1])
    if _NONE.search(before):
        return []
    others = _OTHERS.match(rest)
    tail = rest[others.end() :] if others else rest
    if not others and re.match(r"\s*(?:from|than|to|compared)\b", rest, re.IGNORECASE):
        tail = ""  # "noticeably different from Video 1" does not give the video that differs
    first = _MENTION.search(tail)
    if first is None and (asked or rest.rstrip().endswith((":", "?"))):
        first = _MENTION.search(following[:40])
        bare = re.fullmatch(rf"\s*(?:answer:?\s*)?({_CARDINAL})\s*[.!]?\s*", following, re.IGNORECASE)
        if first is None and bare:
            return [_number(bare.group(1))]
    return _numbers(first) if first else []


def _numbers(mention: re.Match[str]) -> list[int]:
    words = next(group for group in mention.groupdict().values() if group)
    return [_number(word) for word in _NUMBER.findall(words)]


def _number(word: str) -> int:
    return _NUMBERS.get(word.lower(), 4)


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


def _location(answer: str) -> Parsed:
    plain = _ABBREVIATION.sub(r"\1 ", answer.translate(_MARKUP))
    places = [_PLACES[next(filter(None, found.groups())).lower()] for found in _PLACE.finditer(plain)]
    if not places:
        mention = _MENTION.search(plain)
        places = _numbers(mention) if mention else []
    return _agreed(places) if places else Parsed(None, "no_position")


def _one_token(answer: str) -> Parsed:
    word = answer.strip().strip(".")
    if word in CHOICES:
        return Parsed(int(word), None)
    return Parsed(None, "out_of_range" if word.isdigit() else "no_position")


_READINGS: dict[Reading, Callable[[str], Parsed]] = {
    "key-phrase": _key_phrase,
    "location": _location,
    "one-token": _one_token,
}


def _mostly_not_latin(answer: str) -> bool:
    letters = [letter for letter in answer if letter.isalpha()]
    return bool(letters) and sum(letter > "ɏ" for letter in letters) > len(letters) / 2


class Weighed(NamedTuple):
    """Probabilities of the positions, and a message if the log-probabilities are not valid."""

    probabilities: Probabilities | None
    oddity: str | None


def weigh(logprobs: str | None) -> Weighed:
    r"""Return P(1), P(2), P(3) of a one-token answer and the remaining probability.

    With :math:`\ell_t` the log-probabilities of the listed tokens t at the place of the answer,
    :math:`m_c = \sum_{t: \mathrm{strip}(t) = c} e^{\ell_t}`, :math:`P(c) = m_c / \sum_{c'} m_{c'}` and the leftover is
    :math:`1 - \sum_c m_c`. A choice that is not among the listed tokens has probability 0.

    Parameters
    ----------
    logprobs : str or None
        JSON of the ``logprobs`` of the server's choice: ``{"content": [{"token", "logprob", "top_logprobs"}]}``.

    Returns
    -------
    Weighed
        Without probabilities if the server did not send log-probabilities, if none of the three choices is among the
        listed tokens, or (with a message) if a log-probability is not valid.
    """
    try:
        found = json.loads(logprobs) if logprobs else None
        for place in (found or {}).get("content") or ():
            if place["token"].strip() in CHOICES:
                return Weighed(_weigh(place), None)
    except _OddError as odd:
        return Weighed(None, str(odd))
    except (LookupError, TypeError, AttributeError, ValueError):
        return Weighed(None, "the log-probabilities do not have the form of a chat completion, p1 to p3 are null")
    return Weighed(None, None)


class _OddError(Exception):
    """A number that is not a log-probability."""


def _weigh(place: Mapping[str, Any]) -> Probabilities | None:
    tokens = {one["token"]: one["logprob"] for one in place.get("top_logprobs") or ()}
    tokens.setdefault(place["token"], place.get("logprob"))
    mass = [math.fsum(_probability(c, lp) for token, lp in tokens.items() if token.strip() == c) for c in CHOICES]
    total = math.fsum(mass)
    if total > _MOST_MASS:
        raise _OddError(f"the probabilities of the choices sum to {total:.3g}, p1 to p3 are null")
    if total <= 0.0:
        return None
    p1, p2, p3 = (m / total for m in mass)
    return Probabilities(p1, p2, p3, max(0.0, 1.0 - total))


def _probability(choice: str, logprob: object) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= _LARGEST_LOGPROB:
        raise _OddError(f"the log-probability of {choice} was {repr(logprob)[:40]}, p1 to p3 are null")
    return math.exp(logprob)


_LARGEST_LOGPROB = 1e-3  # larger than 0 only by rounding
_MOST_MASS = 1.05
