"""A model server that a collection run starts itself, unless one is already running.

A server that is already running is used and is not stopped at the end. Starting, monitoring and stopping a process is
implemented in :mod:`affectlake.process.managed_server`.
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
    """A server that is ready: its base URL, whether it was started here, and how long the start took."""

    url: str
    started_here: bool
    seconds: float


def note_of(log: Path) -> Path:
    """Return the path of the note beside a server's log, which identifies its process while it runs."""
    return log.with_name(f"{log.name}.pid")


@contextmanager
def serve(
    server: ServerCommand, log: Path, secrets: Sequence[str] = (), stop_limit_s: float = 20.0
) -> Iterator[Served]:
    """Run a server while the block is active.

    Parameters
    ----------
    server : ServerCommand
        How to start it.
    log : Path
        File to which its output is appended. While the server runs, ``<log>.pid`` beside it identifies its process, so
        that the next run can take over, and stop at its end, a server whose starter was killed.
    secrets : sequence of str
        Strings that must not appear in an error message.
    stop_limit_s : float
        Seconds that the server may take to end before it is killed.

    Raises
    ------
    CollectionError
        If the server does not start, ends, or is not ready within its limit.
    """
    note = note_of(log)
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
