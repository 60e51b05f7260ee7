"""Recognise what the columns of a file are, by their names; what is ambiguous is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from affectlake.errors import SourceError, nearest
from affectlake.judge.judgments.options import ROLES_OF, STIMULI
from affectlake.tasks import Task
from affectlake.user_tables import UserTable
from affectlake.user_tables.catalogue import Catalogue

_SUFFIXES = (
    ("1", "2", "3"),
    ("0", "1", "2"),
    ("a", "b", "c"),
    ("i", "j", "k"),
    ("left", "middle", "right"),
    ("left", "center", "right"),
    ("left", "centre", "right"),
)
_OF_ODD: Mapping[str, tuple[str, ...]] = {
    "stimuli": ("stimuli", "triplet", "items", "images", "choices", "options"),
    "odd": (
        "odd", "oddone", "oddoneout", "oddid", "chosen", "chosenid", "chosenimage", "chosenstimulus", "choice",
        "selected", "selection", "response", "answer",
    ),
}  # fmt: skip
_DETAILS: Mapping[str, tuple[str, ...]] = {
    "participant": (
        "participant", "participantid", "subject", "subjectid", "subj", "sub", "worker", "workerid", "prolificpid",
        "prolificid", "pid", "puid", "subid", "rater", "raterid", "user", "userid", "observer",
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


SAMPLED = 200
"""Number of first rows by which columns are recognised."""


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
    check_given(given, columns, file, "odd-one-out")
    found = dict(given)
    free = [name for name in columns if name not in given.values()]
    for role, names in preferred.items():
        found.setdefault(role, next((name for name in names if name in free), ""))
    if not _stimuli_given(found):
        found |= _stimuli(columns, free, trios, file)
    add_named(found, columns, {"odd": _OF_ODD["odd"], **_DETAILS})
    if not found["odd"]:
        raise SourceError(
            f"{file} has no column that is recognised as the odd one out",
            wanted=f"one of {', '.join(_OF_ODD['odd'])}",
            found=", ".join(map(repr, columns[:20])),
            todo="name it with --column odd=NAME",
        )
    return {role: name for role, name in found.items() if name}


def check_given(given: Mapping[str, str], columns: Sequence[str], file: str, task: Task) -> None:
    """Raise :class:`SourceError` if a column that the user names does not exist."""
    for role, name in given.items():
        if name not in columns:
            raise SourceError(
                f"{file} has no column {name!r}, which is to be {ROLES_OF[task][role]}",
                found=", ".join(map(repr, columns[:20])),
                todo=nearest(name, columns) or f"correct --column {role}=NAME",
            )


def add_named(found: dict[str, str], columns: Sequence[str], names: Mapping[str, Sequence[str]] = _DETAILS) -> None:
    """Add the roles that are not found yet, whose columns have one of their names; empty if there is none."""
    free = [name for name in columns if name not in found.values()]
    for role, known in names.items():
        if found.get(role):
            continue
        free = [name for name in free if name not in found.values()]
        found[role] = next((name for word in known for name in free if plain(name) == word), "")


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
    listed = next((name for word in _OF_ODD["stimuli"] for name in free if plain(name) == word), "")
    if not trios and listed:
        return {"stimuli": listed}
    what = "several sets of columns" if trios else "no columns"
    raise SourceError(
        f"{file} has {what} that can be the three stimuli",
        wanted="three columns such as stimulus_1, stimulus_2 and stimulus_3, whose cells are ids of the catalogue",
        found="; ".join(", ".join(trio) for trio in trios) or ", ".join(map(repr, columns[:20])),
        todo="name them with --column stimulus_1=NAME --column stimulus_2=NAME --column stimulus_3=NAME",
    )


def names_stimuli(table: UserTable, columns: Sequence[str], catalogue: Catalogue) -> bool:
    """Return whether at least half of the first cells of columns are stimuli of the catalogue."""
    some = table.frame.select(columns).drop_nulls().head(SAMPLED)
    cells = [cell for column in some.iter_columns() for cell in column]
    return bool(cells) and 2 * sum(catalogue.knows(cell) for cell in cells) >= len(cells)
