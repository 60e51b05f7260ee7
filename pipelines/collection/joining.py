"""Joining a lake with another: what waits is published first, and what becomes of parameters.

Rows, versions and names are the lake's (:mod:`affectlake.lake.joining.join`).
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from affectlake.errors import LeaseError
from affectlake.judge.trials.request_keys import canonical
from affectlake.lake import repository
from affectlake.lake.joining import join as joining
from affectlake.lake.joining.join import Joined, MergedParams, Sides
from affectlake.lake.store.merges import has_unjoined_merge, merging
from affectlake.pipelines.collection.publishing import Log, agents_with_journals, leases, publish_waiting
from affectlake.pipelines.params import study
from affectlake.pipelines.params.record import record_of
from affectlake.pipelines.params.text import text_editor
from affectlake.process import lease

_LONGEST = 40
_MOST = 8


def join(lake: Path, source: str, remote: str, log: Log) -> Joined:
    """Publish what waits in this lake's journals, then unite it with another lake.

    Parameters
    ----------
    lake, source, remote, log
        As for :func:`affectlake.lake.joining.join`.

    Raises
    ------
    AffectlakeError
        As there, and :func:`affectlake.pipelines.collection.publishing.publish_waiting`.
    """
    _publish_first(lake, log)
    with repository.writing(lake, "affectlake join", wait_s=float("inf"), say=log):
        return joining.join(lake, source, remote, merged_params, log)


def _publish_first(lake: Path, log: Log) -> None:
    agents = agents_with_journals(lake)
    if agents and (merging(lake) or has_unjoined_merge(lake)):
        log(f"answers of {', '.join(agents)} that are in no version yet are published by the next `affectlake collect`")
        return
    for agent in agents:
        try:
            with lease.hold(leases(lake), agent):
                done = publish_waiting(lake, agent, log)
        except LeaseError as error:
            log(f"{error.summary} ({error.found}): what it has not published yet comes with its next version")
            continue
        if done.n_added:
            log(f"{agent}: {done.n_added:,} answers that were in no version are published")


def merged_params(sides: Sides) -> MergedParams:
    """Return the parameters of a joined version: ours, with the agents that only the other side has.

    Where a merge by Git is in progress, ours are those in the folder, if they are in order. Parameters of versions may
    be those of an earlier release: what this one does not take in them is not a reason to leave them.
    """
    text, folder = sides.ours.decode(), record_of(sides.folder)
    if not folder.unreadable and not _new_mistakes(text, sides.folder.decode()):
        text = sides.folder.decode()
    notes: dict[str, None] = {}
    base = record_of(sides.base).mapping("agents")
    for content in sides.theirs:  # what was published is read leniently; what comes of it is checked
        theirs = record_of(content)
        if theirs.unreadable:
            notes[f"their params.yaml is left: {theirs.unreadable}"] = None
            continue
        for name in theirs.mapping("agents"):
            if name not in record_of(text.encode()).mapping("agents") and name not in base:
                text, note = _with_agent(text, content.decode(), name)
                notes[note] = None
        notes |= dict.fromkeys(_differences(record_of(text.encode()).raw, theirs.raw))
    return MergedParams(text.encode(), list(notes))


def _new_mistakes(before: str, after: str) -> list[str]:
    """Return what does not fit in parameters and was not there before."""
    known = {one.summary for one in study.examined(record_of(before.encode()).raw)[1]}
    found = study.examined(record_of(after.encode()).raw)[1]
    return [one.summary for one in found if one.summary not in known]


def _with_agent(text: str, theirs: str, name: str) -> tuple[str, str]:
    """Add an agent's entry, unless it has mistakes beside ours."""
    editor, out = text_editor(), StringIO()
    document = editor.load(text)
    document["agents"] = document.get("agents") or {}
    document["agents"][name] = editor.load(theirs)["agents"][name]
    editor.dump(document, out)
    mistakes = _new_mistakes(text, out.getvalue())
    if mistakes:
        return text, f"params.yaml: their agent {name} is left out: {mistakes[0]}"
    return out.getvalue(), f"params.yaml: their agent {name} is added"


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    mine, other = dict(_leaves(ours)), dict(_leaves(theirs))
    found = [
        f"{key} (ours {_shown(mine, key)}, theirs {_shown(other, key)})"
        for key in dict.fromkeys([*mine, *other])
        if (key in mine, mine.get(key)) != (key in other, other.get(key))
    ]
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return [f"params.yaml differs in: {', '.join(found[:_MOST])}{more}"] if found else []


def _leaves(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        inner = isinstance(value, Mapping) and value
        found += _leaves(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return found


def _shown(values: Mapping[str, Any], key: str) -> str:
    """Return a value in few words; an address may hold a password, and is not shown."""
    if key not in values:
        return "nothing"
    text = canonical(values[key])
    if "://" in text:
        return "an address"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
