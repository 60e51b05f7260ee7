"""Forget a participant: remove their rows from the present tables, and refuse them from now on.

Tables that steps make from the rows are stale then, and the next run makes them again. Where rows remain, in older
versions and elsewhere, is found by :mod:`affectlake.lake.remains`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import UsageError, nearest
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.preflight import prepare
from affectlake.lake.remains import Remains, find_remains, purge, refuse_shared_cache
from affectlake.lake.store.cache import Listed, collected_parts
from affectlake.lake.store.forgotten import Forgotten, begin_forgetting, read_forgotten, write_forgotten
from affectlake.lake.store.versions import Manifest, Version, cached_object
from affectlake.lake.tables.appending import point_and_place
from affectlake.lake.tables.removing import Rewritten, names_people, participants_in, rewrite

Log = Callable[[str], None]


class Removed(NamedTuple):
    """What was removed: rows by output, and the version without them; None if they were removed before."""

    n_rows: dict[str, int]
    version: Version | None


def forget(lake: Path, agent: str, participant: str, log: Log, *, is_known: bool = False) -> Removed:
    """Remove a participant's rows from the collected tables, as a new version, and add them to the list of forgotten.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    agent : str
        The agent whose answers they gave; it need not be in ``params.yaml``.
    participant : str
        The id, as in the column ``participant`` of ``responses``.
    log : callable
        Takes one line of progress. No line, file or message of a commit has the id.
    is_known : bool
        Whether the participant was found elsewhere, such as among unpublished answers, and need not have rows.

    Raises
    ------
    UsageError
        If the agent has no participants, or not this one.
    LakeError
        If the lake cannot be published.
    """
    with repository.writing(lake, f"affectlake forget {agent}", wait_s=float("inf"), say=log):
        prepare(lake, log)
        parts = {output: collected_parts(lake, output) for output in _outputs(lake, agent, is_known=is_known)}
        forgotten = read_forgotten(lake)
        found = {output: rewrite(lake, output, listed, [participant]) for output, listed in parts.items()}
        found = {output: one for output, one in found.items() if one.n_removed}
        if not (found or is_known or forgotten.among(agent, [participant])):
            raise _unknown(lake, agent, participant, parts)
        _remove(lake, parts, found, forgotten.with_participant(agent, participant))
        version = repository.publish_collected(lake, log, "rows of one participant were removed")
    return Removed({str(output): one.n_removed for output, one in found.items()}, version)


def allow_again(lake: Path, agent: str, participant: str, log: Log) -> Version | None:
    """Remove a participant from the list of forgotten, so that their rows are accepted again; return the version.

    Raises
    ------
    UsageError
        If the participant is not forgotten.
    """
    with repository.writing(lake, f"affectlake forget {agent}", wait_s=float("inf"), say=log):
        prepare(lake, log)
        forgotten = read_forgotten(lake)
        n = sum(one.agent == agent for one in forgotten.entries)
        if not forgotten.among(agent, [participant]):
            raise UsageError(f"{agent} has no forgotten participant {participant!r}", found=f"{n:,} forgotten ones")
        write_forgotten(lake, forgotten.without_participant(agent, participant))
        return repository.publish_collected(lake, log, "rows of one participant are accepted again")


def purge_rows(lake: Path, agent: str, participant: str, log: Log) -> tuple[Remains, int]:
    """Remove the files on this machine that hold a forgotten participant's rows and are of older versions.

    Returns
    -------
    remains : Remains
        What holds the rows afterwards.
    n_removed : int
        Number of files removed.

    Raises
    ------
    UsageError
        If the participant is not forgotten.
    LakeError
        If the cache is outside the lake.
    """
    refuse_shared_cache(lake)
    with repository.writing(lake, f"affectlake forget {agent}", wait_s=float("inf"), say=log):
        prepare(lake, log)
        forgotten = read_forgotten(lake)
        if not forgotten.among(agent, [participant]):
            raise UsageError(f"{agent} has no forgotten participant {participant!r}")
        found = find_remains(lake, agent, participant)
        gone = frozenset(one.md5 for one in found.objects)
        if not gone <= forgotten.withdrawn:
            write_forgotten(lake, forgotten | Forgotten(withdrawn=gone))
            repository.publish_collected(lake, log, "files with rows of one participant were removed")
        n_removed = purge(lake, found)
    return find_remains(lake, agent, participant), n_removed


def _outputs(lake: Path, agent: str, *, is_known: bool) -> list[Output]:
    """Return the collected outputs of an agent that name participants."""
    collected = [output for output in Manifest(lake, "").collected if names_people(output.table)]
    of_agent = [output for output in collected if output.partition == agent]
    if not of_agent and not is_known:
        known = sorted({output.partition for output in collected})
        raise UsageError(
            f"no answers of {agent!r} are stored", allowed=", ".join(known) or "none", todo=nearest(agent, known)
        )
    return of_agent


def _remove(
    lake: Path, before: Mapping[Output, list[Listed]], found: Mapping[Output, Rewritten], forgotten: Forgotten
) -> None:
    """Point to the rewritten parts; whatever is published next, if this is interrupted, lacks the rows."""
    gone = {str(output): {part.md5 for part in set(before[output]) - set(one.listed)} for output, one in found.items()}
    begin_forgetting(lake, gone)
    write_forgotten(lake, forgotten)
    for output, one in found.items():
        point_and_place(lake, output, one.listed, one.changed)


def _unknown(lake: Path, agent: str, participant: str, parts: dict[Output, list[Listed]]) -> UsageError:
    n = len(participants_in([cached_object(lake, one.md5) for listed in parts.values() for one in listed]))
    return UsageError(
        f"{agent} has no participant {participant!r}",
        found=f"{n:,} participant{'s' if n != 1 else ''}",
        todo='give the id as it is in the table: `affectlake query "SELECT DISTINCT participant FROM responses"`'
        if n
        else "the rows do not name who gave them: none can be removed by participant",
    )
