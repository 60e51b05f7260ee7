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

from affectlake.errors import CollectionError, UsageError
from affectlake.judge.chat import ChatAgent, recorded_chat_agent
from affectlake.judge.requests.journal import Count, Journal, QuarantineCount
from affectlake.judge.trials.request_keys import canonical
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.preflight import prepare
from affectlake.lake.recovery import recover
from affectlake.lake.store.versions import Version, content_at
from affectlake.pipelines.collection.planning import keep_answers
from affectlake.pipelines.collection.quarantine import retry_quarantined, set_aside_faulty
from affectlake.pipelines.params.study import Params

PER_SHARD = 50_000
_ENTRY = "agent.yaml"
_ANSWERS = "answers.sqlite"

Log = Callable[[str], None]


class Published(NamedTuple):
    """What came of publishing.

    Attributes
    ----------
    n_added : int
        Rows added.
    version : Version or None
        The version that has them; None if there was nothing new.
    n_set_aside : int
        Answers that were put into quarantine.
    n_taken_back : int
        Rows that were in quarantine, and can be published now.
    """

    n_added: int = 0
    version: Version | None = None
    n_set_aside: int = 0
    n_taken_back: int = 0

    def then(self, other: Published) -> Published:
        """Return what came of this, and of `other` after it."""
        return Published(
            self.n_added + other.n_added,
            other.version or self.version,
            self.n_set_aside + other.n_set_aside,
            self.n_taken_back + other.n_taken_back,
        )


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


def in_quarantine(lake: Path, agent: str) -> list[QuarantineCount]:
    """Return how many rows of each trial set are in quarantine and why, over all journals of an agent."""
    found: list[QuarantineCount] = []
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            found += journal.quarantine_counts()
    return found


def agents_with_journals(lake: Path) -> list[str]:
    """Return the agents that have a journal, whether anything waits in it or not."""
    return sorted({path.parents[1].name for path in (lake / layout.COLLECTING).glob(f"*/*/{_ANSWERS}")})


def prepare_to_publish(lake: Path, agent: str, log: Log) -> None:
    """See that answers can be published, and that the folder holds every published one, so that none is asked again.

    Raises
    ------
    LakeError
        If no version could be made, an older one is checked out, or a table was changed by hand.
    """
    with repository.writing(lake, f"affectlake collect {agent}", wait_s=float("inf"), say=log):
        prepare(lake, log)


def publish_waiting(lake: Path, agent: str, log: Log) -> Published:
    """Publish what waits in an agent's journals as one version, and then let the journals forget it.

    Answers that break the contract of ``responses`` go into quarantine, each alone, and those that are there are tried
    again. Safe to be cut off anywhere: what a version has already is not added again. The caller holds the agent's
    lease.

    Raises
    ------
    ContractError
        If it is not the answers that break the contract, but what is said of the agent in each of them.
    """
    done = Published()
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            done = done.then(_publish(lake, _agent_of(folder, agent), journal, log))
    return done


def _publish(lake: Path, agent: ChatAgent, journal: Journal, log: Log) -> Published:
    n_taken_back = retry_quarantined(agent, journal)
    if n_taken_back:
        log(f"{agent.name}: {n_taken_back:,} rows that were in quarantine can be published now")
    while journal.seal(PER_SHARD):
        pass
    shards = journal.sealed()
    if not shards:
        return Published()
    n_set_aside = sum(set_aside_faulty(agent, journal, shard) for shard in shards)
    if n_set_aside:
        log(
            f"{agent.name}: {n_set_aside:,} answers cannot be published and are kept in quarantine; "
            "`affectlake status` says why"
        )
    n_added = 0
    with repository.writing(lake, f"affectlake collect {agent.name}", wait_s=float("inf"), say=log):
        recover(lake, log)
        for shard in shards:
            n_added += keep_answers(lake, agent, chain.from_iterable(journal.read(shard))).n_added
        version = publish_grown(lake, log)
    for shard in shards:
        journal.forget(shard)
    return Published(n_added, version, n_set_aside, n_taken_back)


def publish_grown(lake: Path, log: Log) -> Version | None:
    """Publish what was added to outputs that grow, and no edit of ``params.yaml``; the caller holds the writer lock.

    The parameters and the pipeline of the version are the last commit's: those that its tables were made with.
    """
    version = repository.publish_collected(lake, log)
    if version and content_at(lake, "HEAD", layout.PARAMS) != (lake / layout.PARAMS).read_bytes():
        log(f"{layout.PARAMS} has changes that are in no version; `affectlake run` publishes them")
    return version


def _folders(lake: Path, agent: str) -> list[Path]:
    return sorted(path.parent for path in (lake / layout.COLLECTING / agent).glob(f"*/{_ANSWERS}"))


def _agent_of(folder: Path, name: str) -> ChatAgent:
    """Return the agent as it was when a journal was begun."""
    path = folder / _ENTRY
    try:
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        return recorded_chat_agent(name, entry if isinstance(entry, dict) else {})
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CollectionError(
            f"{path} does not say whose answers lie beside it",
            found=str(error),
            todo="bring it back, or move both away",
        ) from error
    except UsageError as error:
        raise CollectionError(
            f"{path} does not say how the answers beside it were asked for: {error.summary}",
            found=error.found,
            allowed=error.allowed,
            todo="publish them with the affectlake that collected them, or bring the file back",
        ) from error
