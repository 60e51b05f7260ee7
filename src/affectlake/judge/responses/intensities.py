"""Reading of answers to `perceive-then-rate` and `describe-then-name`: an intensity from 0 to 10, or a label.

All functions are pure and take one answer. A number is a rating only where a word of rating is said with it, or where
it is a line of its own; the scale ("from 1 to 10") and the labels asked for are cut out first. A number that stands
last is not a rating for that. What is not clearly one rating is a reason, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from affectlake.judge.responses.key_phrase import CORRECTION
from affectlake.judge.responses.parsed import MARKUP, SENTENCE
from affectlake.judge.responses.parsing import REFUSAL, mostly_not_latin, without_thoughts

Said = Literal["number", "zero", "no"]
"""How an intensity was said: a number above 0, the number 0, or in words: "No.", "I do not perceive any fear"."""

WhyUnrated = Literal[
    "empty",
    "truncated",
    "refusal",
    "other_language",
    "no_rating",
    "several",
    "out_of_range",
    "contradiction",
]
"""Why there is no intensity.

``empty``: only blanks. ``truncated``: the answer ends before its rating. ``refusal``: the model declines.
``other_language``: most letters are not Latin. ``no_rating``: nothing is said as a rating, or only a bound ("at least
6"). ``several``: different ratings, or a range. ``out_of_range``: a number that is not 0 or from 1 to 10, or of another
scale ("70 %", "4/5"). ``contradiction``: "No" together with a rating above 0.
"""

Unnamed = Literal["empty", "truncated", "refusal", "other_language", "no_label", "several", "out_of_range"]
"""Why there is no label; ``out_of_range``: the number of an option that was not listed."""


class Intensity(NamedTuple):
    """The result of reading an answer to `perceive-then-rate`.

    Attributes
    ----------
    value : float or None
        0, or 1 to 10.
    said : Said or None
        How it was said; None if there is no value.
    reason : WhyUnrated or None
        Why there is no value; None if there is one.
    """

    value: float | None
    said: Said | None
    reason: WhyUnrated | None


class Named(NamedTuple):
    """The result of reading an answer to `describe-then-name`.

    Attributes
    ----------
    option : int or None
        Number of the option named, from 0, in the order listed.
    reason : Unnamed or None
        Why there is none; None if there is one.
    """

    option: int | None
    reason: Unnamed | None


_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_TOP = r"(?:10|ten)"
_DIGITS = r"\d+(?:[.,]\d+)?"
_NUMBER = rf"(?<![\w.,])(?:[-−]\s?)?(?:{_DIGITS}(?![\w])|(?:{'|'.join(_WORDS)})\b)(?:\s+and\s+a\s+half\b)?"
_SCALE = re.compile(
    rf"\(?\b(?:(?:on|in|using|of|with|along)\s+)?(?:a|the|this|your|an?\s+intensity)?\s*scale\s*(?:of|from|that\s+(?:runs|"
    rf"goes)\s+from|between|is|was|:)?\s*(?:0|1|zero|one)\s*(?:\([^)]*\)\s*)?(?:-|–|—|to|through|and|until)\s*{_TOP}\b(?:\s*scale)?\)?"
    rf"|\b(?:from|between)\s+(?:0|1|zero|one)\s*(?:-|–|—|to|and)\s*{_TOP}\b"
    rf"|(?<![\w.])(?:0|1)\s*(?:-|–|—|to)\s*10\b(?:\s*(?:point\s*)?scale\b)?"
    rf"|\b(?:10|ten)[\s-]*point\s+scale\b|\bscale\s+of\s+{_TOP}\b|\bvon\s+1\s+bis\s+10\b"
    rf"|(?<![\w.])(?:0|1|10|zero|one|ten)\s+(?:being|is|means|meaning|represents|representing|denotes|indicates|"
    rf"indicating|stands\s+for)\s+(?:the\s+|an?\s+)?(?:\w+\s+){{0,2}}?(?:lowest|highest|least|most|weakest|strongest|"
    rf"none|no|absent|not|nothing|maximum|minimum|minimal|maximal|extreme\w*|very|low|high|mild)\b[^.,;)]*",
    re.IGNORECASE,
)
_LISTED = re.compile(r"^\s*\d{1,2}[.)]\s+(?=\S)", re.MULTILINE)
_ECHO = re.compile(
    r"\bwith\s+a\s+higher\s+score\s+indicating[^.?!\n]*|\botherwise,?\s+(?:simply\s+)?(?:respond|answer|reply)[^.?!\n]*\W*\bno\b"
    r"|\breport\s+whether\s+you\s+can\s+perceive[^?!.\n]*",
    re.IGNORECASE,
)
_OUT_OF = re.compile(
    rf"(?P<number>{_NUMBER})\s*(?:/|out\s+of|von|aus)\s*(?:a\s+possible\s+)?(?P<top>\d+|ten|five|hundred)\b(?!\s*/)",
    re.IGNORECASE,
)
_OF_RATING = (
    r"(?:rat(?:e[sd]?|ings?)|scor(?:e[sd]?|ing)|intensit(?:y|ies)|level|degree|strength|give|assign(?:ed)?|grade|SCALE)"
)
_LINK = (
    r"(?:\b(?:as|at|of|is|was|be|being|to|a|an|the|it|this|that|clip|video|emotion|around|about|roughly|approximately|say|"
    r"score|rating|intensity|level|number|value|solid|full|strong|give|rate|SCALE|in|exactly|only|just|simply|somewhere|"
    r"moderate|mild|very|low|high)|[:=,–—~≈(-])"
)
_AFTER = (
    r"(?=\s*(?:$|[.,;:!?()–—]|-\s|SCALE|/\s*10\b|%|percent\b"
    r"|(?:on|for|in|because|since|due|as|given|with|points?|and|but|overall|here|to|at|which|out|so|while|though|although|"
    r"this|it|i|here|indicating|meaning|reflecting|suggesting|based|considering|intensity|or|if|when|the)\b))"
)
_RATED = re.compile(rf"\b{_OF_RATING}\b", re.IGNORECASE)
_LINKED = re.compile(rf"(?:^|{_LINK})\s*(?P<number>{_NUMBER}){_AFTER}", re.IGNORECASE)
_THEN_RATED = re.compile(
    rf"(?P<number>{_NUMBER})\s+(?:points?\b|(?:in|of|for)\s+(?:its\s+|the\s+)?intensity\b|on\s+(?:the\s+|a\s+)?SCALE|SCALE)"
)
_ALONE = re.compile(
    rf"^\W*(?:(?:(?:(?:the|my)\s+)?(?:answer|response|rating|score|intensity)(?:\s+is)?|yes|i\s+would\s+say|i['’]d\s+say|it['’]?s)\s*[:,.=-]?\s*)*(?:an?\s+)?"
    rf"(?P<number>{_NUMBER})\s*(?:points?)?\W*$",
    re.IGNORECASE,
)
_RANGE = re.compile(
    rf"\bbetween\s+{_NUMBER}\s+and\s+{_NUMBER}|{_NUMBER}\s*(?:-|–|—|/|\bto\b|\bor\b)\s*{_NUMBER}", re.IGNORECASE
)
_PER_CENT = re.compile(r"^\s*(?:%|percent\b|per\s+cent\b)", re.IGNORECASE)
_BOUND = re.compile(
    r"\b(?:less|more|higher|lower|greater|smaller|other|rather)\s+than\b|\b(?:at\s+(?:least|most)|up\s+to|below|above|over|"
    r"under|nearly|almost|instead\s+of|not|never|without|cannot|exceeds?|beyond)\b|n't\b",
    re.IGNORECASE,
)
_UNREAL = re.compile(
    r"\b(?:if|unless|whether|had\s+it)\b(?!\s+so\b)"
    r"|\b(?:some(?:one|body)?|others?|people|viewers?|many|most|another|original|previous|typical)\b[^,;]{0,30}\b(?:might|may|could|"
    r"would|will|rates?|rated|gives?)\b"
    r"|\b(?:might|could)\s+have\b",
    re.IGNORECASE,
)
_NO = re.compile(
    r"^\W*(?:(?:so|therefore|thus|hence|overall|in\s+conclusion|(?:my|the|final)?\s*(?:final\s+)?(?:answer|response|rating)"
    r"(?:\s+(?:is|would\s+be))?|i\s+(?:would\s+|will\s+|must\s+|simply\s+|have\s+to\s+)*(?:respond|answer|say|reply)"
    r"(?:\s+with)?)[\s,:]*)*(?:no|nope|nein)\s*(?:$|[.!,;:–—]|-\s)(?!\s*\d)",
    re.IGNORECASE,
)
_PERCEIVE = r"(?:perceive|detect|sense|feel|see|observe|find|identify|recogni[sz]e|notice|discern|experience)"
_NOT_PERCEIVED = (
    r"\b(?:do\s+not|don['’]t|did\s+not|didn['’]t|can\s*not|can['’]t|could\s+not|couldn['’]t|am\s+(?:not\s+able|unable)\s+to|"
    rf"was\s+unable\s+to)\s+(?:really\s+|actually\s+|personally\s+)?{_PERCEIVE}\b(?P<what>[^.;:!?]*)"
    r"|\b(?:is|are|was)\s+(?:no|not\s+any)\b(?P<there>[^.;:!?,]*)"
    r"|\bdo(?:es)?(?:\s+not|n['’]t)\s+(?:\w+\s+)?(?:convey|evoke|contain|show|express|elicit|display|exhibit|conjure)\b"
    r"(?P<conveyed>[^.;:!?]*)"
    r"|(?P<subject>[^.;:!?,]*)\b(?:is|are|was)(?:\s+not|n['’]t)\s+(?:at\s+all\s+)?(?:perceived|present|conveyed|evoked|"
    r"perceivable|evident|perceptible|detectable|there)\b"
)
_ABSENT = re.compile(_NOT_PERCEIVED, re.IGNORECASE)
_QUALIFIED = re.compile(
    r"\b(?:strong(?:ly)?|intense(?:ly)?|much|high|great|only|just|merely|other\s+than|except|besides|but|doubt|clear|"
    r"reason|change|difference|more|extreme(?:ly)?|very|lack|absence)\b",
    re.IGNORECASE,
)
_UNABLE = re.compile(
    r"\bas an? (?:ai|language model|artificial)\b|\b(?:sorry|apologi[sz]e)\b"
    r"|\b(?:unable to|cannot|can['’]?t|can not) (?:view|watch|access|see|open|process)\b"
    r"[^.]{0,20}\b(?:videos?|clips?|images?)",
    re.IGNORECASE,
)
_DIRECTED = re.compile(r"[-\s](?:low|high)$", re.IGNORECASE)


def read_intensity(text: str, labels: str = "", *, cut_off: bool = False) -> Intensity:
    """Return the intensity that an answer gives, or the reason why it does not give one.

    Parameters
    ----------
    text : str
        The answer, verbatim.
    labels : str
        The labels that were asked about, as they were written: ``Fear, safety-low, control-low``. They are cut out
        where the answer repeats them. Labels without a direction (``Fear``) are also the emotion whose absence is a
        "No": "there is no fear" is one, "there is no safety" and "there is no music" are not.
    cut_off : bool
        Whether the answer was truncated at the token limit.

    Returns
    -------
    Intensity
        "No." and 0 are both 0, and are told apart by `said`: the published example answers 0 although it was asked for
        "No." (Extended Data Fig. 17). A sentence that begins with a correction ("Wait, …") takes the place of what was
        said before. Questions, conditions, bounds ("at least 6") and ratings of others ("some might rate it 9") are
        not ratings.
    """
    answer = without_thoughts(text)
    if answer is None:
        return Intensity(None, None, "truncated")
    if not answer.strip():
        return Intensity(None, None, "truncated" if cut_off and text.strip() else "empty")
    found = _read(_without_labels(_plain(answer), _plain(labels)), _emotions(labels))
    if found.reason == "no_rating" or (found.said == "no" and _is_unable(answer)):
        if REFUSAL.search(answer) and (found.said != "no" or _is_unable(answer)):
            return Intensity(None, None, "refusal")
        if cut_off and found.said is None:
            return Intensity(None, None, "truncated")
        if mostly_not_latin(answer):
            return Intensity(None, None, "other_language")
    return found


def read_name(text: str, options: Sequence[str], *, cut_off: bool = False) -> Named:
    """Return the option that an answer names, by ``Label: NUMBER`` or in full, or the reason why it does not.

    Parameters
    ----------
    text : str
        The answer, verbatim.
    options : sequence of str
        The labels in the order listed, numbered from 1 in the question.
    cut_off : bool
        Whether the answer was truncated at the token limit.

    Returns
    -------
    Named
        Numbers after ``Label`` must agree. Without one, the labels that the last line repeats in full must be one.
    """
    answer = without_thoughts(text)
    if answer is None:
        return Named(None, "truncated")
    if not answer.strip():
        return Named(None, "truncated" if cut_off and text.strip() else "empty")
    found = _named(_plain(answer), options)
    if found.reason != "no_label":
        return found
    if REFUSAL.search(answer):
        return Named(None, "refusal")
    return Named(None, "truncated" if cut_off else "other_language" if mostly_not_latin(answer) else "no_label")


_LABEL = re.compile(r"\blabel\s*(?:number|no\.?)?\s*(?:is)?\s*[:=]?\s*(\d{1,6})\b", re.IGNORECASE)


def _named(plain: str, options: Sequence[str]) -> Named:
    numbers = {int(one) for one in _LABEL.findall(plain)}
    if len(numbers) == 1:
        (number,) = numbers
        return Named(number - 1, None) if 1 <= number <= len(options) else Named(None, "out_of_range")
    lines = [" ".join(line.split()).lower() for line in plain.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    named = [] if numbers else [at for at, one in enumerate(options) if _contains(last, _plain(one))]
    longest = [at for at in named if not any(_within(options[at], options[other]) for other in named)]
    if len(longest) == 1:
        return Named(longest[0], None)
    return Named(None, "several" if numbers or longest else "no_label")


def _contains(text: str, words: str) -> bool:
    wanted = re.escape(" ".join(words.split()).lower())
    return re.search(rf"(?<![\w-]){wanted}(?![\w-])", text) is not None


def _within(one: str, other: str) -> bool:
    return one != other and one.lower() in other.lower()


def _plain(text: str) -> str:
    return text.translate(MARKUP)


def _without_labels(answer: str, labels: str) -> str:
    """Return an answer in which the labels asked for are one word, so that no number in them is a rating."""
    words = labels.split()
    if not words:
        return answer
    return re.sub(r"\s+".join(map(re.escape, words)), " EMOTION ", answer, flags=re.IGNORECASE)


def _emotions(labels: str) -> re.Pattern[str]:
    """Return a pattern of what is denied in a "No": the labels without a direction, or the emotion in general."""
    names = [name.strip() for name in labels.split(",")]
    own = [re.escape(name) for name in names if name and not _DIRECTED.search(name)]
    return re.compile(rf"\b(?:{'|'.join([*own, 'EMOTIONS?', 'feelings?', 'affect'])})\b", re.IGNORECASE)


def _is_unable(answer: str) -> bool:
    """Return whether the model says that it cannot see or feel at all."""
    return _UNABLE.search(answer) is not None


def _read(answer: str, emotions: re.Pattern[str]) -> Intensity:
    text = _SCALE.sub(" SCALE ", _ECHO.sub(" ", _LISTED.sub("", answer)))
    values: list[float] = []
    no = ranged = False
    for line in text.splitlines():
        sentences = [one for one in SENTENCE.split(line) if one.strip()]
        for sentence in sentences:
            if CORRECTION.search(sentence) and not _NO.search(sentence):
                values, no, ranged = [], False, False
            if sentence.rstrip().endswith("?"):
                continue
            found, is_range = _ratings(sentence)
            values += found
            ranged = ranged or is_range
            no = no or bool(_NO.search(sentence)) or _denies(sentence, emotions)
    return _agreed(values, no=no, ranged=ranged)


def _agreed(values: Sequence[float], *, no: bool, ranged: bool) -> Intensity:
    different = set(values)
    if ranged or len(different) > 1:
        return Intensity(None, None, "several")
    if not different:
        return Intensity(0.0, "no", None) if no else Intensity(None, None, "no_rating")
    (value,) = different
    if value != 0 and not 1 <= value <= 10:
        return Intensity(None, None, "out_of_range")
    if value and no:
        return Intensity(None, None, "contradiction")
    return Intensity(value, "number" if value else "zero", None)


def _denies(sentence: str, emotions: re.Pattern[str]) -> bool:
    """Return whether a sentence says that the emotion is not there at all."""
    for found in _ABSENT.finditer(sentence):
        what = next((part for part in found.groups() if part), "")
        named = emotions.search(what)
        if (
            named
            and not _QUALIFIED.search(what[: named.end()])
            and not re.match(r"\s*(?:other|except|but)\b", what[named.end() :])
        ):
            return not _UNREAL.search(sentence[: found.start()])
    return False


def _ratings(sentence: str) -> tuple[list[float], bool]:
    """Return the ratings in a sentence, and whether one of them is a range."""
    values: list[float] = []
    spans: list[tuple[int, int]] = []
    for found in _OUT_OF.finditer(sentence):
        spans.append(found.span())
        if _is_meant(sentence, found.start()):
            values.append(_value(found["number"]) if found["top"].lower() in ("10", "ten") else -1.0)
    rest = _blanked(sentence, spans)
    alone = _ALONE.match(rest)
    if alone:
        return [*values, _value(alone["number"])], False
    rated = _RATED.search(rest)
    for found in _RANGE.finditer(rest):
        if rated and _is_meant(rest, found.start()) and _is_rating_range(rest, found):
            return values, True
    for found in _numbers(rest, rated.start() if rated else None):
        if _is_meant(rest, found.start("number")):
            is_share = _PER_CENT.match(rest[found.end("number") :])
            values.append(-1.0 if is_share else _value(found["number"]))
    return values, False


def _numbers(sentence: str, rated_at: int | None) -> Iterator[re.Match[str]]:
    """Yield the numbers that are said as ratings: after a word of rating, or before one."""
    if rated_at is not None:
        yield from (found for found in _LINKED.finditer(sentence) if found.start("number") > rated_at)
    yield from _THEN_RATED.finditer(sentence)


def _is_rating_range(sentence: str, found: re.Match[str]) -> bool:
    return bool(re.match(_AFTER, sentence[found.end() :], re.IGNORECASE))


def _is_meant(sentence: str, at: int) -> bool:
    """Return whether a number is the model's rating, not a bound, a condition or another's."""
    clause = re.split(r"[,;:]", sentence[:at])[-1]
    return not _BOUND.search(clause[-40:]) and not _UNREAL.search(sentence[:at])


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _value(number: str) -> float:
    """Return the value of a number in digits or words; a negative one is -1."""
    plain = number.strip().lower()
    half = 0.5 if plain.endswith("half") else 0.0
    plain = plain.split()[0] if half else plain
    if plain[0] in "-−":
        return -1.0
    return half + (float(_WORDS.index(plain)) if plain in _WORDS else float(plain.replace(",", ".")))
