"""Publishing answers: journals hold them until a version does, one journal for each entry of an agent.

If the entry of an agent in ``params.yaml`` changes, a new journal is started, so that answers are published with the
entry under which they were asked. Servers are not asked here.
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
from affectlake.judge.chat import ChatAgent, OwnProtocols, recorded_chat_agent
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.journal import Count, Journal, QuarantineCount
from affectlake.judge.trials.request_keys import canonical
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.preflight import prepare
from affectlake.lake.recovery import recover
from affectlake.lake.store.git_objects import content_at
from affectlake.lake.store.versions import Version
from affectlake.pipelines.collection.planning import keep_answers
from affectlake.pipelines.collection.quarantine import retry_quarantined, set_aside_faulty
from affectlake.pipelines.params.protocols import parse_protocol, path_of
from affectlake.pipelines.params.study import Params

PER_SHARD = 50_000
_ENTRY = "agent.yaml"
_PROTOCOL = "protocol.yaml"
_ANSWERS = "answers.sqlite"

Log = Callable[[str], None]


class Published(NamedTuple):
    """What was published.

    Attributes
    ----------
    n_added : int
        Number of rows added.
    version : Version or None
        The version that contains them; None if there was nothing new.
    n_set_aside : int
        Number of answers moved to quarantine.
    n_taken_back : int
        Number of rows that were in quarantine and can now be published.
    """

    n_added: int = 0
    version: Version | None = None
    n_set_aside: int = 0
    n_taken_back: int = 0

    def then(self, other: Published) -> Published:
        """Return the sum of this and a later publishing."""
        return Published(
            self.n_added + other.n_added,
            other.version or self.version,
            self.n_set_aside + other.n_set_aside,
            self.n_taken_back + other.n_taken_back,
        )


def leases(lake: Path) -> Path:
    """Return the path of the file with the leases on agents."""
    return lake / layout.COLLECTING / "leases.sqlite"


def server_log(lake: Path, agent: str) -> Path:
    """Return the path of the log of a server that is started for an agent."""
    return lake / layout.COLLECTING / agent / "server.log"


@contextmanager
def open_journal(lake: Path, params: Params, agent: ChatAgent) -> Iterator[Journal]:
    """Open the journal of an agent's current entry; create it if it does not exist."""
    entry = {key: value for key, value in params.raw["agents"][agent.name].items() if key != "l1"}
    folder = _own_folder(lake, agent)
    own = params.protocol_files.get(path_of(agent.family))
    if own is not None:
        write_whole(folder / _PROTOCOL, own)
    write_whole(folder / _ENTRY, yaml.safe_dump(entry, sort_keys=False).encode())
    with Journal(folder / _ANSWERS) as journal:
        yield journal


def unpublished_answers(lake: Path, agent: ChatAgent, trial_set: str, limit: int) -> list[Answer]:
    """Return the latest answers in the journal of an agent's current entry, at most `limit`; the last one last."""
    path = _own_folder(lake, agent) / _ANSWERS
    if not path.exists():
        return []
    with Journal(path) as journal:
        return journal.latest(trial_set, limit)


def _own_folder(lake: Path, agent: ChatAgent) -> Path:
    """Return the folder of the journal of an agent's current entry."""
    name = hashlib.sha256(canonical(agent.identity()).encode()).hexdigest()[:16]
    return lake / layout.COLLECTING / agent.name / name


def waiting(lake: Path, agent: str) -> list[Count]:
    """Return the numbers of unpublished rows by trial set and failure, over all journals of an agent."""
    found: list[Count] = []
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            found += journal.counts()
    return found


def in_quarantine(lake: Path, agent: str) -> list[QuarantineCount]:
    """Return the numbers of rows in quarantine by trial set and reason, over all journals of an agent."""
    found: list[QuarantineCount] = []
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            found += journal.quarantine_counts()
    return found


def agents_with_journals(lake: Path) -> list[str]:
    """Return the agents that have a journal, which may be empty."""
    return sorted({path.parents[1].name for path in (lake / layout.COLLECTING).glob(f"*/*/{_ANSWERS}")})


def prepare_to_publish(lake: Path, agent: str, log: Log) -> None:
    """Verify that answers can be published, and that the folder has all published ones, so that none is asked again.

    Raises
    ------
    LakeError
        If the lake cannot be published, an older version is checked out, or a table was changed by hand.
    """
    with repository.writing(lake, f"affectlake collect {agent}", wait_s=float("inf"), say=log):
        prepare(lake, log)


def publish_waiting(lake: Path, agent: str, log: Log) -> Published:
    """Publish the answers in an agent's journals as one version, and delete them from the journals.

    Single answers that break the contract of ``responses`` are moved to quarantine; those in quarantine are tried
    again. The function may be interrupted at any point: answers that are in a version are not added again. The caller
    holds the agent's lease.

    Returns
    -------
    Published
        What was published.

    Raises
    ------
    ContractError
        If not the answers break the contract, but the columns about the agent, which are the same in all rows.
    """
    done = Published()
    for folder in _folders(lake, agent):
        with Journal(folder / _ANSWERS) as journal:
            done = done.then(_publish(lake, _agent_of(folder, agent), journal, log))
    return done


def _publish(lake: Path, agent: ChatAgent, journal: Journal, log: Log) -> Published:
    n_taken_back = retry_quarantined(agent, journal)
    if n_taken_back:
        log(f"{agent.name}: {n_taken_back:,} rows in quarantine can now be published")
    while journal.seal(PER_SHARD):
        pass
    shards = journal.sealed()
    if not shards:
        return Published()
    n_set_aside = sum(set_aside_faulty(agent, journal, shard) for shard in shards)
    if n_set_aside:
        log(
            f"{agent.name}: {n_set_aside:,} answers cannot be published and are kept in quarantine; "
            "see `affectlake status` for the reasons"
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
    """Publish the rows added to growing tables, without edits of ``params.yaml``; the caller holds the writer lock.

    The version has the parameters and the pipeline of the last commit, with which its tables were made.
    """
    version = repository.publish_collected(lake, log)
    if version and content_at(lake, "HEAD", layout.PARAMS) != (lake / layout.PARAMS).read_bytes():
        log(f"{layout.PARAMS} has unpublished changes; `affectlake run` publishes them")
    return version


def _folders(lake: Path, agent: str) -> list[Path]:
    return sorted(path.parent for path in (lake / layout.COLLECTING / agent).glob(f"*/{_ANSWERS}"))


def _protocol_of(folder: Path, name: str) -> OwnProtocols:
    """Return the protocol, if it is not a built-in one, that an agent had when a journal was started."""
    path = folder / _PROTOCOL
    return {name: parse_protocol(path.read_bytes(), name, str(path))} if path.exists() else {}


def _agent_of(folder: Path, name: str) -> ChatAgent:
    """Return the agent with the entry that it had when a journal was started."""
    path = folder / _ENTRY
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        entry = found if isinstance(found, dict) else {}
        return recorded_chat_agent(name, entry, _protocol_of(folder, str(entry.get("protocol"))))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CollectionError(
            f"{path} cannot be read, so that the answers beside it cannot be published",
            found=str(error),
            todo="restore the file, or move it and the journal away",
        ) from error
    except UsageError as error:
        raise CollectionError(
            f"{path} is not a valid entry of an agent: {error.summary}",
            found=error.found,
            allowed=error.allowed,
            todo="publish the answers with the release that collected them, or restore the file",
        ) from error
