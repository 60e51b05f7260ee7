"""One judgment: its stimuli, what was asked and answered, and what others chose for the same triplet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from affectlake.errors import UsageError
from affectlake.judge.responses.deciding import Span, deciding_words
from affectlake.judge.responses.tables import read_answer
from affectlake.ui.index import Index
from affectlake.ui.judgments import reason_in_words
from affectlake.ui.opened import OpenVersion, Stimulus
from affectlake.ui.prompts import Prompt, prompt_of, protocol_named, sampling_in_words

KEY = ("agent", "set", "protocol", "i", "j", "k", "repeat")
"""The parameters of an address that name a judgment."""

_SHOWN = (
    "request_key", "protocol", "model", "revision", "sampling", "shown_1", "shown_2", "shown_3",
    "caption_1", "caption_2", "caption_3",
    "answer", "finish_reason", "p1", "p2", "p3", "error_kind", "error_words", "attempts", "served_model", "thinking",
    "refusal", "participant", "session", "trial", "asked_at", "response_ms", "head", "given_odd", "given_winner",
)  # fmt: skip
_MOST_ANSWERS = 60


class Piece(NamedTuple):
    """A piece of an answer, and whether its words decide."""

    text: str
    decides: bool


class Answer(NamedTuple):
    """A stored answer.

    Attributes
    ----------
    row : mapping
        The row of ``responses``.
    prompt : Prompt or None
        What was asked; None for answers of people.
    pieces : list of Piece
        The answer, cut where its deciding words begin and end.
    chosen : Stimulus or None
        What this answer alone chooses.
    reading : str
        Why nothing is chosen, or why no words are marked; empty if there is nothing to say.
    settings : str
        The sampling settings.
    """

    row: Mapping[str, Any]
    prompt: Prompt | None
    pieces: list[Piece]
    chosen: Stimulus | None
    reading: str
    settings: str


class Others(NamedTuple):
    """What one agent chose for a triplet: the number of its judgments for each stimulus, and without a choice."""

    agent: str
    trial_set: str
    counts: tuple[int, int, int]
    n_none: int
    is_human: bool


class Judgment(NamedTuple):
    """One judgment, with all that is known of it."""

    row: Mapping[str, Any]
    stimuli: list[Stimulus]
    odd: Stimulus | None
    reason: str
    answers: list[Answer]
    others: list[Others]


def judgment_of(opened: OpenVersion, index: Index, given: Mapping[str, str]) -> Judgment:
    """Return the judgment that an address names.

    Parameters
    ----------
    opened : OpenVersion
        The version.
    index : Index
        Its judgments.
    given : mapping
        The parameters of the address, `KEY`.

    Raises
    ------
    UsageError
        If there is no such judgment.
    """
    i, j, k, repeat = (_whole(given.get(name, "")) for name in ("i", "j", "k", "repeat"))
    of_triplet = index.rows("SELECT * FROM judgments WHERE i = ? AND j = ? AND k = ? ORDER BY place", [i, j, k])
    wanted = (given.get("agent", ""), given.get("set", ""), given.get("protocol", ""), repeat)
    own = [one for one in of_triplet if (one["agent"], one["trial_set"], one["protocol"], one["repeat"]) == wanted]
    if not own:
        raise UsageError(f"{opened.version.name} has no such judgment", todo="find it again in the list of judgments")
    row = own[0]
    return Judgment(
        row,
        [opened.stimulus(at) for at in (i, j, k)],
        None if row["odd"] is None else opened.stimulus(row["odd"]),
        reason_in_words(row["reason"]),
        _answers(opened, row),
        _others(of_triplet, opened.people),
    )


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise UsageError(f"{text!r} is not the index of a stimulus or the number of a repeat", wanted="a whole number")
    return int(text)


def _answers(opened: OpenVersion, row: Mapping[str, Any]) -> list[Answer]:
    source = opened.select("responses", *_SHOWN, "agent", "trial_set", "i", "j", "k", "repeat", "shard")
    found = opened.rows(
        f"SELECT {', '.join(_SHOWN)} FROM ({source}) WHERE agent = ? AND trial_set = ? AND i = ? AND j = ? AND k = ? "
        f"AND coalesce(repeat, 0) = ? ORDER BY shard, request_key LIMIT {_MOST_ANSWERS}",
        [row[name] for name in ("agent", "trial_set", "i", "j", "k", "repeat")],
    )
    return [_answer(opened, dict(zip(_SHOWN, one, strict=True))) for one in found]


def _answer(opened: OpenVersion, row: dict[str, Any]) -> Answer:
    text, settings = row["answer"], sampling_in_words(row["sampling"])
    if row["participant"] is not None or row["model"] is None:
        given = row["given_odd"]
        chosen = None if given is None else opened.stimulus(given)
        return Answer(row, None, [Piece(text, False)] if text else [], chosen, "", settings)
    prompt = prompt_of(opened, row)
    if text is None:
        why = "the request failed" if row["error_kind"] else f"the answer is not in {opened.whereabouts}"
        return Answer(row, prompt, [], None, row["error_words"] or why, settings)
    asked = protocol_named(opened, str(row["protocol"]))
    if asked is None:
        return Answer(
            row, prompt, [Piece(text, False)], None, "it is not read again, as its protocol is unknown", settings
        )
    finish = row["finish_reason"] or ""
    read = read_answer(asked, text, finish, row["refusal"], row["thinking"])
    spans = deciding_words(text, asked, cut_off=finish == "length")
    shown = None if read.position is None else row[f"shown_{read.position}"]
    chosen = None if shown is None else opened.stimulus(shown)
    return Answer(row, prompt, pieces_of(text, spans), chosen, reason_in_words(read.reason), settings)


def pieces_of(text: str, spans: list[Span]) -> list[Piece]:
    """Return a text, cut where the spans begin and end."""
    found, at = list[Piece](), 0
    for span in spans:
        found += [Piece(text[at : span.start], False), Piece(text[span.start : span.end], True)]
        at = span.end
    return [piece for piece in (*found, Piece(text[at:], False)) if piece.text]


def _others(rows: list[dict[str, Any]], people: set[str]) -> list[Others]:
    counts: dict[tuple[str, str], Counter[int | None]] = {}
    for row in rows:
        counts.setdefault((row["agent"], row["trial_set"]), Counter())[row["odd"]] += 1
    members = (rows[0]["i"], rows[0]["j"], rows[0]["k"])
    return [
        Others(agent, trial_set, (n[members[0]], n[members[1]], n[members[2]]), n[None], agent in people)
        for (agent, trial_set), n in counts.items()
    ]
