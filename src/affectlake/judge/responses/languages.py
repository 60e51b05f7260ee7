"""Answers in German and Chinese, in the words of the English key phrase, for the reader of key phrases.

Models answer in the language of the captions now and then, although they are asked in English. If an answer has no
English key phrase but a German or Chinese one, the words on which the reading depends are replaced by English ones:
the phrase, mentions, negations and conjunctions. The result is not a translation, and is only parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from affectlake.judge.protocols.readings import PHRASE

Replacement = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_IS = " is noticeably different "
_ENGLISH = re.compile(PHRASE, re.IGNORECASE)


def _compiled(*pairs: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[Replacement, ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), word) for pattern, word in pairs)


_CLEARLY = r"(?:deutlich|merklich|spürbar|auffallend|auffällig|erkennbar|klar|wesentlich|stark)"
_NEAR = r"[^.!?\n]{0,60}?"

LONGEST = 20_000
"""Number of characters of an answer beyond which it is not read in German or Chinese."""


def _is_different(found: re.Match[str]) -> str:
    return f"{found.group('who')}{_IS}{found.group('whom') or ''}"


_GERMAN_PHRASE = _compiled(
    (rf"\b(?:unterscheide[tn]|heb(?:t|en))\s+sich\b(?P<who>{_NEAR})(?P<whom>\bvon\b{_NEAR})?\b{_CLEARLY}\b",
     _is_different),
    (rf"\bsich\b(?P<who>{_NEAR})\b{_CLEARLY}\b(?P<whom>{_NEAR})\b(?:unterscheide[tn]|abheb(?:t|en))\b",
     rf"\g<who>{_IS}\g<whom>"),
    (rf"\b{_CLEARLY}\s+(?:anders|verschieden|unterschiedlich)\w*", " noticeably different "),
)  # fmt: skip

_GERMAN_WORDS = _compiled(
    (r",\s+(?:die|der|das|welche\w*)\s+(?=is noticeably)", " that "),
    (r"\b(?:glaube|denke|finde|meine|würde)\s+nicht(?:\s+sagen)?,?\s+dass\b", "do not think that"),
    (r"\bkein\w*\s+(?:der|von|dieser)\b", "none of the"),
    (r"\bkein\w*\s+(?:emotional\w*|gefühl\w*|reaktion\w*|emotion\w*)", "no emotion"),
    (r"\b(?:nicht|kaum|nie|niemals)\b", "not"),
    (r"\bweder\b", "neither"),
    (r"\bnoch\b(?=\s+(?:video|clip|das|der))", "nor"),
    (r"\bim\s+gegensatz\s+zu\b", "in contrast to"),
    (r"\b(?:verglichen\s+mit|im\s+vergleich\s+(?:zu|mit))\b", "compared to"),
    (r"\b(?:von|als|zu)\s+(?:bei\s+)?(?:den|die)\s+(?:(?:anderen|beiden)\s*)+(?:videos|clips)?", "from the other two "),
    (r"\b(?:von|als)\b", "from"),
    (r"\bund\b", "and"),
    (r"\boder\b", "or"),
    (r"\b(?:aber|jedoch|sondern)\b", "but"),
    (r"\b(?:während|wohingegen)\b", "while"),
    (r"\b(?:weil|obwohl)\b", "because"),
    (r"\b(?:deshalb|daher|somit|folglich|also)\b", "so"),
    (r"\balle\b", "all"),
    (r"\bwelche\w*\b", "which"),
    (r"\berste\w*\b", "first"),
    (r"\bzweite\w*\b", "second"),
    (r"\bdritte\w*\b", "third"),
    (r"\bletzte\w*\b", "last"),
    (r"\beins\b", "one"),
    (r"\bzwei\b", "two"),
    (r"\bdrei\b", "three"),
    (r"\bwenn\b", "if"),
    (r"\bob\b", "whether"),
)  # fmt: skip

_DIGITS = {"一": "1", "二": "2", "三": "3", "四": "4"}
_VIDEO = r"(?:视频|影片|片段|視頻|录像)"
_ONE = r"[一二三四1-9]"


def _video(found: re.Match[str]) -> str:
    number = found.group("number")
    return f" video {_DIGITS.get(number, number)} "


_CHINESE_PHRASE = _compiled(
    (r"(?:明显|显著|明顯|顯著)(?:的|地)?(?:不同|不一[样樣]|差[异異]|[区區][别別])|截然不同|大不相同",
     " noticeably different "),
)  # fmt: skip

_CHINESE_WORDS = _compiled(
    (rf"{_VIDEO}\s*(?P<number>{_ONE})", _video),
    (rf"第\s*(?P<number>{_ONE})\s*[个個]?{_VIDEO}", _video),
    (rf"[没沒]有(?:任何)?(?:一[个個]|哪[个個])?{_VIDEO}", " none of the videos "),
    (rf"(?:三[个個]{_VIDEO}|三者|它们|所有{_VIDEO})都", " all "),
    (rf"哪一?[个個]?{_VIDEO}?", " which "),
    (rf"[与與和跟](?:其他|其它|另外|其余|其餘|另)的?[两兩二2][个個者]?(?:{_VIDEO})?(?:相比)?", " "),
    (r"[与與和跟](?P<whom>(?:\s*video [1-9](?:\s*[和与與及、])?){1,3})\s*相比", r" compared with \g<whom> "),
    (r"[与與跟](?P<whom>\s*video [1-9](?:\s*[和及、]\s*video [1-9]){1,3})\s*(?=noticeably|有|的)",
     r" compared with \g<whom> "),
    (r"是否", " not "),
    (r"(?:并)?不(?:认为|認為|觉得|覺得)", " do not think "),
    (r"(?:并)?[没沒]有?|并不|并非|不是|不", " not "),
    (r"如果|若", " if "),
    (r"(?:以及|和|与|與|及|、)", " and "),
    (r"(?:或者|或|还是)", " or "),
    (r"(?:但是|但|不过|然而|可是)", " but "),
    (r"而", " while "),
    (r"因为|因為", " because "),
    (r"所以|因此", " so "),
    (r"[，：]", ", "),
    (r"。", ". "),
    (r"？", "? "),
    (r"！", "! "),
)  # fmt: skip


def in_english_words(answer: str) -> str:
    """Return an answer with the words that decide its meaning in English; an answer in another language as it is."""
    if len(answer) > LONGEST or _ENGLISH.search(answer):
        return answer
    for phrase, words in ((_GERMAN_PHRASE, _GERMAN_WORDS), (_CHINESE_PHRASE, _CHINESE_WORDS)):
        if any(pattern.search(answer) for pattern, _ in phrase):
            for pattern, word in (*phrase, *words):
                answer = pattern.sub(word, answer)
            return answer
    return answer
