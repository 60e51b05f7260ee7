"""Joining a lake with another: publish the journals first, and merge the parameters.

:mod:`affectlake.lake.joining.join` joins rows, versions and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from affectlake.errors import LeaseError, UsageError
from affectlake.judge.chat import OwnProtocols
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.trials.request_keys import canonical
from affectlake.lake import repository
from affectlake.lake.joining import join as joining
from affectlake.lake.joining.join import Joined, MergedParams, Sides
from affectlake.lake.store.merges import has_unjoined_merge, merging
from affectlake.pipelines.collection.publishing import Log, agents_with_journals, leases, publish_waiting
from affectlake.pipelines.params import study
from affectlake.pipelines.params.protocols import SUFFIX, parse_protocol
from affectlake.pipelines.params.record import record_of
from affectlake.pipelines.params.text import text_editor
from affectlake.process import lease

_LONGEST = 40
_MOST = 8


def join(lake: Path, source: str, remote: str, log: Log) -> Joined:
    """Publish the answers in this lake's journals, then join it with another lake.

    Parameters
    ----------
    lake, source, remote, log
        As for :func:`affectlake.lake.joining.join`.

    Returns
    -------
    Joined
        The joined version.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.lake.joining.join` and :func:`affectlake.pipelines.collection.publishing.publish_waiting`.
    """
    _publish_first(lake, log)
    with repository.writing(lake, "affectlake join", wait_s=float("inf"), say=log):
        return joining.join(lake, source, remote, merged_params, log)


def _publish_first(lake: Path, log: Log) -> None:
    agents = agents_with_journals(lake)
    if agents and (merging(lake) or has_unjoined_merge(lake)):
        log(f"unpublished answers of {', '.join(agents)} are published by the next `affectlake collect`")
        return
    for agent in agents:
        try:
            with lease.hold(leases(lake), agent):
                done = publish_waiting(lake, agent, log)
        except LeaseError as error:
            log(f"{error.summary} ({error.found}): its unpublished answers come with its next version")
            continue
        if done.n_added:
            log(f"{agent}: {done.n_added:,} unpublished answers are published")


def merged_params(sides: Sides) -> MergedParams:
    """Return the parameters of a joined version: ours, with the agents that only the other side has.

    If a merge by Git is in progress, ours are those in the folder, provided that they are valid. Parameters of
    versions may come from an earlier release, and are kept even if this release would refuse them.
    """
    text, folder, own = sides.ours.decode(), record_of(sides.folder), _protocols(sides)
    if not folder.unreadable and not _new_mistakes(text, sides.folder.decode(), own):
        text = sides.folder.decode()
    notes: dict[str, None] = {}
    base = record_of(sides.base).mapping("agents")
    for content in sides.theirs:  # published parameters are read leniently; the result is checked
        theirs = record_of(content)
        if theirs.unreadable:
            notes[f"their params.yaml is ignored: {theirs.unreadable}"] = None
            continue
        for name in theirs.mapping("agents"):
            if name not in record_of(text.encode()).mapping("agents") and name not in base:
                text, note = _with_agent(text, content.decode(), name, own)
                notes[note] = None
        notes |= dict.fromkeys(_differences(record_of(text.encode()).raw, theirs.raw))
    return MergedParams(text.encode(), list(notes))


def _protocols(sides: Sides) -> OwnProtocols:
    """Return the protocols of all sides by name, as far as they are valid."""
    found = dict[str, Protocol]()
    for path, content in sides.protocols.items():
        name = path.name.removesuffix(SUFFIX)
        with suppress(UsageError):
            found[name] = parse_protocol(content, name, str(path))
    return found


def _new_mistakes(before: str, after: str, own: OwnProtocols) -> list[str]:
    """Return the mistakes in parameters that were not there before."""
    known = {one.summary for one in study.examined(record_of(before.encode()).raw, own)[1]}
    found = study.examined(record_of(after.encode()).raw, own)[1]
    return [one.summary for one in found if one.summary not in known]


def _with_agent(text: str, theirs: str, name: str, own: OwnProtocols) -> tuple[str, str]:
    """Add an agent's entry, unless it is invalid together with ours; return the text, and a note."""
    editor, out = text_editor(), StringIO()
    document = editor.load(text)
    document["agents"] = document.get("agents") or {}
    document["agents"][name] = editor.load(theirs)["agents"][name]
    editor.dump(document, out)
    mistakes = _new_mistakes(text, out.getvalue(), own)
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
    """Return a value as short text; an address is not shown, because it may contain a password."""
    if key not in values:
        return "nothing"
    text = canonical(values[key])
    if "://" in text:
        return "an address"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
