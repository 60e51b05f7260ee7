"""The server of a model that a collection run starts itself, unless it is up already.

A server that is already up is used and left alone. How a process is started, watched and stopped is in
:mod:`affectlake.process.managed_server`; what is asked of the server does not belong here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import CollectionError
from affectlake.judge.requests.client import Scrubber
from affectlake.judge.server_command import ServerCommand
from affectlake.process.managed_server import ServerLaunch, ServerStartError, is_healthy, managed_server
from affectlake.process.server_note import find_orphan


class Served(NamedTuple):
    """A server that is ready: its base URL, whether it was started here, and how long that took."""

    url: str
    started_here: bool
    seconds: float


@contextmanager
def serve(
    server: ServerCommand, log: Path, secrets: Sequence[str] = (), stop_limit_s: float = 20.0
) -> Iterator[Served]:
    """Have a server while the block runs.

    Parameters
    ----------
    server : ServerCommand
        How to start it.
    log : Path
        Where its output goes, appended. Beside it, ``<log>.pid`` names its process while it lives, so that a server
        whose starter was killed is taken over by the next run and stopped at its end.
    secrets : sequence of str
        What must not appear in an error message.
    stop_limit_s : float
        How long it may take to end before it is killed.

    Raises
    ------
    CollectionError
        If it does not start, ends, or is not ready within its limit.
    """
    note = log.with_name(f"{log.name}.pid")
    if find_orphan(note) is None and is_healthy(server.health_url):
        yield Served(server.url, started_here=False, seconds=0.0)
        return
    launch = ServerLaunch(server.command, server.health_url, log, note, server.env, server.start_limit_s, stop_limit_s)
    with ExitStack() as stack:
        try:
            running = stack.enter_context(managed_server(launch))
        except ServerStartError as error:
            raise _not_started(server, log, error, Scrubber(secrets)) from error
        yield Served(server.url, started_here=True, seconds=running.seconds)


def _not_started(server: ServerCommand, log: Path, error: ServerStartError, scrub: Scrubber) -> CollectionError:
    if error.reason == "not started":
        return CollectionError(
            f"the server {error.how}",
            found=scrub(shlex.join(server.command)),
            todo="install the program, or correct server.command of the agent in params.yaml",
        )
    if error.reason == "address taken":
        return CollectionError(f"the server {error.how}", todo="stop that server, or set another server.port")
    return CollectionError(
        f"the server {error.how}",
        wanted=f"200 from {server.health_url}",
        found=" | ".join(scrub(line) for line in error.last_lines) or "an empty log",
        todo=f"read {log}" + (", or raise server.start_limit_s" if error.reason == "too slow" else ""),
    )
