"""Reading of answers that name a stimulus together with a phrase: "Video 2 is noticeably different"."""

from __future__ import annotations

import re

from affectlake.judge.protocols.readings import PHRASE, KeyPhrase, Labels
from affectlake.judge.responses.languages import in_english_words
from affectlake.judge.responses.mentions import Mentions
from affectlake.judge.responses.parsed import Parsed, agreed, sentences_of

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
CORRECTION = re.compile(
    r"^\W*(?:oh,?\s+|no,?\s+|but\s+|hmm,?\s+)*(?:wait|actually|correction|i mean|scratch that|let me correct|"
    r"i correct myself|on (?:second thoughts?|reflection)|upon reflection|sorry,)(?!\w)",
    re.IGNORECASE,
)
_ALSO = re.compile(r"(?:[\s,]*(?:and\s+(?:also|likewise)|as\s+well\s+as)|\s*and)\s+(?:the\s+)?", re.IGNORECASE)
_RELATIVE = re.compile(r"\s*(?:that|which|who)\b", re.IGNORECASE)
_NONE = re.compile(
    r"\b(?:none|neither|no\s+(?:one\s+)?(?:single\s+)?(?:video|clip))\b|\b(?:all|each)\b[^.]{0,40}$", re.IGNORECASE
)
_OTHERS = re.compile(
    r"^\s*(?:from|than|to|compared)\b[^:.?!]*?(?:other\s+two|others|other\s+(?:videos|clips)|rest)", re.IGNORECASE
)
_ECHO = re.compile(r"(?<!, )\b(?:which|tell me|answer format|video id is noticeably)\b", re.IGNORECASE)


class KeyPhraseReader:
    """Reader of answers that name a stimulus together with a phrase."""

    def __init__(self, reading: KeyPhrase, labels: Labels) -> None:
        self._phrase = re.compile(reading.phrase, re.IGNORECASE)
        self._is_default = reading.phrase == PHRASE
        self._rare = _RARE_WORD if self._is_default else self._phrase
        self._mentions = Mentions(reading.noun, labels)

    def __call__(self, answer: str) -> Parsed:
        claims: list[int] = []
        said = none = corrects = False
        sentences = sentences_of(self._near_phrase(in_english_words(answer) if self._is_default else answer))
        for at, sentence in enumerate(sentences):
            phrases = list(self._phrase.finditer(sentence))
            corrects = corrects or (not phrases and bool(CORRECTION.search(sentence)))
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
                if found and (corrects or CORRECTION.search(before)):
                    claims, corrects = [], False
                none = none or (not found and nothing)
                claims += found
        if claims:
            return agreed(claims)
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
