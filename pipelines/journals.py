"""Where answers wait until a version has them: one journal for each way an agent was asked, with the entry it had.

An agent whose entry changes gets a new journal, so that what was kept under the old entry is published as what it is.
Asking does not belong here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import yaml

from affectlake.errors import CollectionError
from affectlake.judge.agents import parse_agent
from affectlake.judge.chat import ChatAgent
from affectlake.judge.journal import Count, Journal
from affectlake.judge.keys import canonical
from affectlake.lake import layout, repository
from affectlake.lake.cache import refuse_behind
from affectlake.lake.files import write_whole
from affectlake.lake.recovery import recover
from affectlake.lake.versions import Version
from pipelines.asking import keep_answers
from pipelines.params import Params

PER_SHARD = 50_000
_ENTRY = "agent.yaml"
_ANSWERS = "answers.sqlite"

Say = Callable[[str], None]


class Published(NamedTuple):
    """What came of publishing: rows added, and the version that has them (None: there was nothing new)."""

    n_added: int
    version: Version | None


def leases(lake: Path) -> Path:
    """Return the file that says who collects whose answers."""
    return lake / layout.COLLECTING / "leases.sqlite"


def server_log(lake: Path, agent: str) -> Path:
    """Return where the output of a server that was started for an agent goes."""
    return lake / layout.COLLECTING / agent / "server.log"


@contextmanager
def open_journal(lake: Path, params: Params, agent: ChatAgent) -> Iterator[Journal]:
    """Open the journal of an agent as it is asked today; made if it is not there."""
    entry = {key: value for key, value in params.raw["agents"][agent.name].items() if key != "l1"}
    name = hashlib.sha256(canonical(agent.identity()).encode()).hexdigest()[:16]
    folder = lake / layout.COLLECTING / agent.name / name
    write_whole(folder / _ENTRY, yaml.safe_dump(entry, sort_keys=False).encode())
    with Journal(folder / _ANSWERS) as journal:
        yield journal


def waiting(lake: Path, agent: str) -> list[Count]:
    """Return how many rows of each trial set and failure wait to be published, over all journals of an agent."""
    found: list[Count] = []
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            found += journal.counts()
    return found


def journaled(lake: Path) -> list[str]:
    """Return the agents that have a journal, whether anything waits in it or not."""
    return sorted({path.parents[1].name for path in (lake / layout.COLLECTING).glob(f"*/*/{_ANSWERS}")})


def make_ready(lake: Path, agent: str, say: Say) -> None:
    """See that the folder holds every answer that is published, so that none is asked for again.

    Raises
    ------
    LakeError
        If an older version is checked out, or a table was changed by hand.
    """
    with repository.writing(lake, f"affectlake collect {agent}", wait_s=float("inf"), say=say):
        recover(lake, say)
        refuse_behind(lake)


def publish_waiting(lake: Path, agent: str, say: Say) -> Published:
    """Publish what waits in an agent's journals as one version, and then let the journals forget it.

    Safe to be cut off anywhere: what a version has already is not added again. The caller holds the agent's lease.

    Raises
    ------
    ContractError
        If answers break the contract of ``responses``; they stay in the journal, and a copy is in quarantine.
    """
    n_added, version = 0, None
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            done = _publish(lake, _agent_of(folder, agent), journal, say)
        n_added, version = n_added + done.n_added, done.version or version
    return Published(n_added, version)


def _publish(lake: Path, agent: ChatAgent, journal: Journal, say: Say) -> Published:
    while journal.seal(PER_SHARD):
        pass
    shards = journal.sealed()
    if not shards:
        return Published(0, None)
    n_added = 0
    with repository.writing(lake, f"affectlake collect {agent.name}", wait_s=float("inf"), say=say):
        recover(lake, say)
        for shard in shards:
            n_added += keep_answers(lake, agent, chain.from_iterable(journal.read(shard))).n_added
        version = repository.publish(lake)
    for shard in shards:
        journal.forget(shard)
    return Published(n_added, version)


def _folders(lake: Path, agent: str) -> list[Path]:
    return sorted(path.parent for path in (lake / layout.COLLECTING / agent).glob(f"*/{_ANSWERS}"))


def _agent_of(folder: Path, name: str) -> ChatAgent:
    """Return the agent as it was when a journal was begun."""
    path = folder / _ENTRY
    try:
        agent = parse_agent(name, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise CollectionError(
            f"{path} does not say whose answers lie beside it",
            found=str(error),
            todo="bring it back, or move both away",
        ) from error
    assert isinstance(agent, ChatAgent)
    return agent
