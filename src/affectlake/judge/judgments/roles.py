"""Recognise what the columns of a file are, by their names; what is ambiguous is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from affectlake.errors import SourceError, nearest
from affectlake.judge.judgments.options import ROLES, STIMULI

_SUFFIXES = (
    ("1", "2", "3"),
    ("0", "1", "2"),
    ("a", "b", "c"),
    ("i", "j", "k"),
    ("left", "middle", "right"),
    ("left", "center", "right"),
    ("left", "centre", "right"),
)
_NAMES: Mapping[str, tuple[str, ...]] = {
    "stimuli": ("stimuli", "triplet", "items", "images", "choices", "options"),
    "odd": (
        "odd", "oddone", "oddoneout", "oddid", "chosen", "chosenid", "chosenimage", "chosenstimulus", "choice",
        "selected", "selection", "response", "answer",
    ),
    "participant": (
        "participant", "participantid", "subject", "subjectid", "subj", "sub", "worker", "workerid", "prolificpid",
        "prolificid", "pid", "rater", "raterid", "user", "userid", "observer",
    ),
    "session": ("session", "sessionid", "sessionnumber"),
    "trial": ("trial", "trialnumber", "trialnum", "trialindex", "trialid", "trialno", "trialn"),
    "time": ("time", "timestamp", "datetime", "date", "askedat", "answeredat", "createdat", "startedat"),
    "response_time": (
        "rt", "rtms", "rts", "rtsec", "responsetime", "responsetimems", "responsetimes", "responsems", "reactiontime",
        "reactiontimems", "latency", "latencyms",
    ),
    "catch": ("catch", "iscatch", "catchtrial", "iscatchtrial", "attentioncheck", "isattentioncheck"),
    "right_answer": (
        "rightanswer", "correctanswer", "corrans", "correctresponse", "correctid", "catchanswer", "expected",
        "expectedanswer",
    ),
}  # fmt: skip
"""Names of columns by role, in lower case without punctuation; earlier names take precedence."""


def plain(name: str) -> str:
    """Return a name in lower case, with letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def recognise(
    columns: Sequence[str],
    given: Mapping[str, str],
    trios: Sequence[Sequence[str]],
    preferred: Mapping[str, Sequence[str]],
    file: str,
) -> dict[str, str]:
    """Return the column of each role that the file has.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns of the file.
    given : mapping of str to str
        Columns by role that the user names.
    trios : sequence of sequence of str
        The sets of three columns that can be the stimuli.
    preferred : mapping of str to sequence of str
        Columns by role that the layout defines, which take precedence over recognised names.
    file : str
        Name of the file for messages.

    Raises
    ------
    SourceError
        If a named column does not exist, or the stimuli or the odd one cannot be recognised.
    """
    for role, name in given.items():
        if name not in columns:
            raise SourceError(
                f"{file} has no column {name!r}, which is to be {ROLES[role]}",
                found=", ".join(map(repr, columns[:20])),
                todo=nearest(name, columns) or f"correct --column {role}=NAME",
            )
    found = dict(given)
    free = [name for name in columns if name not in given.values()]
    for role, names in preferred.items():
        found.setdefault(role, next((name for name in names if name in free), ""))
    if not _stimuli_given(found):
        found |= _stimuli(columns, free, trios, file)
    for role, known in _NAMES.items():
        if role == "stimuli" or found.get(role):
            continue
        free = [name for name in free if name not in found.values()]
        found[role] = next((name for word in known for name in free if plain(name) == word), "")
    if not found["odd"]:
        raise SourceError(
            f"{file} has no column that is recognised as the odd one out",
            wanted=f"one of {', '.join(_NAMES['odd'])}",
            found=", ".join(map(repr, columns[:20])),
            todo="name it with --column odd=NAME",
        )
    return {role: name for role, name in found.items() if name}


def possible_trios(columns: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the sets of three columns whose names differ in a number, letter or side alone, such as ``image_1``."""
    named = {plain(name): name for name in reversed(columns)}
    found: list[tuple[str, str, str]] = []
    for suffixes in _SUFFIXES:
        first = suffixes[0]
        for word in list(named):
            if not word.endswith(first):
                continue
            stem = word[: len(word) - len(first)]
            words = [stem + suffix for suffix in suffixes]
            if all(one in named for one in words):
                a, b, c = (named[one] for one in words)
                found.append((a, b, c))
    return list(dict.fromkeys(found))


def _stimuli_given(found: Mapping[str, str]) -> bool:
    return bool(found.get("stimuli")) or all(found.get(role) for role in STIMULI)


def _stimuli(columns: Sequence[str], free: Sequence[str], trios: Sequence[Sequence[str]], file: str) -> dict[str, str]:
    if len(trios) == 1:
        return dict(zip(STIMULI, trios[0], strict=True))
    listed = next((name for word in _NAMES["stimuli"] for name in free if plain(name) == word), "")
    if not trios and listed:
        return {"stimuli": listed}
    what = "several sets of columns" if trios else "no columns"
    raise SourceError(
        f"{file} has {what} that can be the three stimuli",
        wanted="three columns such as stimulus_1, stimulus_2 and stimulus_3, whose cells are ids of the catalogue",
        found="; ".join(", ".join(trio) for trio in trios) or ", ".join(map(repr, columns[:20])),
        todo="name them with --column stimulus_1=NAME --column stimulus_2=NAME --column stimulus_3=NAME",
    )
