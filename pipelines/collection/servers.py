"""The servers of an agent during a run, and the error of a run that stopped because they fail too often."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from affectlake.errors import CollectionError
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.wording import Wording
from affectlake.judge.requests.constraints import PROBE
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account
from affectlake.judge.requests.server_process import note_of, serve
from affectlake.pipelines.collection.publishing import Log, server_log
from affectlake.process.device_queue import device_state, hold_device


@contextmanager
def agent_servers(lake: Path, agent: ChatAgent, key: str, log: Log) -> Iterator[tuple[str, ...]]:
    """Yield the URLs of the agent's servers; start a server first if the agent's entry has a command for it.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    agent : ChatAgent
        The agent.
    key : str
        Its API key, which is hidden in the server's log; may be empty.
    log : callable
        Takes one line of progress.
    """
    if agent.server is None:
        yield agent.servers
        return
    path = server_log(lake, agent.name)
    with _device(lake, agent, log):
        limit = f"at most {agent.server.start_limit_s:g} s"
        log(f"{agent.name}: waiting for the server on port {agent.server.port}, {limit}")
        with serve(agent.server, path, [key] if key else []) as found:
            how = f"started in {found.seconds:.0f} s" if found.started_here else "was already running"
            log(f"{agent.name}: the server at {found.url} {how}")
            yield agent.servers


def _device(lake: Path, agent: ChatAgent, log: Log) -> AbstractContextManager[None]:
    """Return a context in which the agent holds the device that its server needs; without a device, an empty one."""
    server = agent.server
    if server is None or not server.device:
        return nullcontext()
    limit_s = math.inf if server.device_limit_s is None else server.device_limit_s
    note = note_of(server_log(lake, agent.name))
    what = f"{agent.name} of {lake}"
    return hold_device(server.device, what, note, limit_s=limit_s, log=lambda line: log(f"{agent.name}: {line}"))


def device_of(agent: ChatAgent) -> str:
    """Return the device of the agent's server, its holder, and how many wait; empty if the agent has none."""
    if agent.server is None or not agent.server.device:
        return ""
    return f"{agent.server.device}, {device_state(agent.server.device)}"


def target_of(agent: ChatAgent, urls: tuple[str, ...]) -> Target:
    """Return the servers at `urls` as the target of an agent's questions."""
    asking = agent.asking
    probe = Wording(asking, agent.model, agent.sampling).of_text(PROBE) if asking.asks_one_token else None
    return Target(urls, agent.model, agent.api_key_env, probe, agent.constraint)


def limits_of(agent: ChatAgent) -> Limits:
    """Return the limits of a run, as the agent's entry sets them."""
    return Limits(concurrency=agent.in_flight, timeout_s=agent.timeout_s)


def circuit_error(account: Account) -> CollectionError:
    """Return the error of a run that its circuit breaker stopped."""
    return CollectionError(
        "the run stopped: the servers fail too often",
        found=account.why,
        todo="see the servers' logs, then run it again; with --until-done, a run retries by itself after a pause",
    )
