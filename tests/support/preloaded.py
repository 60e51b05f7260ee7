"""A process that has imported what commands import, and runs each command in a fork of it.

Half of the time of a small command is spent on imports. :func:`preloaded` starts the process and returns a folder with
a program ``affectlake``, which is found first on the tests' PATH. It hands its arguments, its environment, its working
folder and its standard streams to the process, and ends as the fork ends: with the same status or by the same signal.
So do a program ``dvc``, and ``preloaded-python`` for scripts (:func:`script`).

Where a fork could differ from a process of its own, a program executes the real one instead: another
environment (other than the variables in `FREE`), user, limit, namespace or session, a terminal, or a closed stream.
Tests about processes, such as those that kill a command, call :data:`REAL`.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REAL = Path(sys.executable).with_name("affectlake")
"""The installed program."""

PROGRAMS = {
    "affectlake": [str(REAL)],
    "dvc": [str(REAL.with_name("dvc"))],
    "preloaded-python": [sys.executable],
}
"""The programs, and what each of them executes where a fork could differ."""

FREE = (
    "PATH", "PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", "PYTEST_CURRENT_TEST", "PS1", "LAKE",
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "PREFECT_API_URL", "AFFECTLAKE_WORKERS", "TORCHINDUCTOR_CACHE_DIR",
)  # fmt: skip
"""Variables that are not read while modules are imported (PREFECT_API_URL: read again in a fork; LAKE: of scripts in
tests). A fork has the values of its caller."""

FREE_PREFIXES = ("DVC_", "GIT_", "MLFLOW_", "PYTEST_XDIST_")
"""Beginnings of the names of such variables: Git reads them in its own processes, DVC and MLflow at every use, and
those of pytest's workers are of tests alone."""

_NAMESPACES = ("pid", "mnt", "net", "user", "ipc", "uts")
_MODULES = (
    "affectlake.cli.collection", "affectlake.cli.joining", "affectlake.cli.judging", "affectlake.cli.planning",
    "affectlake.cli.verification", "affectlake.cli.versions", "affectlake.flows.build", "affectlake.flows.collect",
    "affectlake.lake.tables.expectations", "affectlake.pipelines.catalogue", "affectlake.report.page",
    "affectlake.report.figures.catalogue", "dvc.cli.parser", "dvc.repo", "dvc_s3", "dvc_ssh", "s3fs", "sshfs",
    "great_expectations", "great_expectations.expectations.core", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "mlflow", "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store", "networkx", "polars", "prefect", "prefect.flows", "prefect.futures",
    "prefect.task_runners", "pyarrow.compute", "pyarrow.parquet", "scipy.stats", "sklearn.decomposition",
    "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.manifold", "sklearn.model_selection",
)  # fmt: skip

_THREADS = {"python", "jemalloc_bg_thd", "polars-ooc-clea"}
"""Threads of this process: its own, those of Polars' allocator, which starts them anew in a fork, and the one that
removes what Polars has spilled to disk, which is idle here and has nothing to do in a command of a test."""

_PROGRAM = """#!{python} -IS
import os, sys
sys.path.insert(0, {folder!r})
from preloaded import run
run({socket!r}, *{real!r})
"""


@contextlib.contextmanager
def preloaded(folder: Path) -> Iterator[Path]:
    """Run the process while the block runs.

    Parameters
    ----------
    folder : Path
        An empty folder for its files.

    Yields
    ------
    Path
        The folder with the programs.
    """
    path = folder / "socket"
    (folder / "bin").mkdir(parents=True)
    for name, real in PROGRAMS.items():
        program = folder / "bin" / name
        program.write_text(
            _PROGRAM.format(python=sys.executable, folder=str(Path(__file__).parent), socket=str(path), real=real)
        )
        program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener, (folder / "log").open("wb") as log:
        listener.bind(str(path))
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(listener.fileno(),),
        )  # fmt: skip
    try:
        yield folder / "bin"
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it ends with its caller, however that ends
        process.wait(60)


def script(path: str | Path, *arguments: str | Path) -> list[str]:
    """Return the command that runs a Python script: in a fork, if the preloaded process runs."""
    python = shutil.which("preloaded-python") or sys.executable
    return [python, str(path), *map(str, arguments)]


def _circumstances() -> dict[str, Any]:
    """Return what a fork has from the process that it is forked from."""
    return {
        "environment": {
            name: value for name, value in os.environ.items() if name not in FREE and not name.startswith(FREE_PREFIXES)
        },
        "limits": [resource.getrlimit(one) for one in range(16)],
        "namespaces": [str(Path(f"/proc/self/ns/{name}").readlink()) for name in _NAMESPACES],
        "session": os.getsid(0),
        "users": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    }


# --- the program


def run(path: str, *real: str) -> None:
    """Run this process's command in a fork of the preloaded process, or execute the real program."""
    answer: dict[str, Any] = {}
    try:
        for stream in (0, 1, 2):
            os.fstat(stream)  # a closed stream is an error, before another file takes its number
            if os.isatty(stream):
                raise OSError("a terminal")
        given = os.open(".", os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            umask = os.umask(0)
            os.umask(umask)
            request = _circumstances() | {
                "all": dict(os.environ), "arguments": [*real, *sys.argv[1:]], "umask": umask,
                "group": os.getpgrp(),
                "ignored": [number for number in range(1, 32) if signal.getsignal(number) == signal.SIG_IGN],
            }  # fmt: skip
            streams = array.array("i", [0, 1, 2, given])
            text = json.dumps(request).encode()
            connection.sendmsg([len(text).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            connection.sendall(text)
            replies = connection.makefile()
            answer = json.loads(replies.readline() or "{}")
            if "pid" in answer:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                    signal.signal(number, lambda number, _: os.kill(answer["pid"], number))
                status = json.loads(replies.readline())["status"]
                if status < 0:
                    with contextlib.suppress(OSError):  # SIGKILL has no handler
                        signal.signal(-status, signal.SIG_DFL)
                    os.kill(os.getpid(), -status)
                os._exit(status)
    except OSError:
        pass
    os.execv(real[0], [*real, *sys.argv[1:]])


# --- the preloaded process


def _received(connection: socket.socket) -> tuple[dict[str, Any], array.array[int]]:
    streams = array.array("i")
    head, controls, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(4 * streams.itemsize))
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            streams.frombytes(data)
    size, text = int.from_bytes(head), b""
    while len(text) < size and (more := connection.recv(size - len(text))):
        text += more
    return json.loads(text) if text and len(text) == size else {}, streams  # a caller may have been killed


def _become(request: dict[str, Any], streams: array.array[int]) -> None:
    """Give this fork what its caller has."""
    from prefect import context

    os.setpgid(0, request["group"])
    for stream, given in enumerate(streams[:3]):
        os.dup2(given, stream)
    os.fchdir(streams[3])
    for one in streams:
        os.close(one)
    os.umask(request["umask"])
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(request["all"])
    context.GLOBAL_SETTINGS_CONTEXT = context.root_settings_context()
    sys.argv = request["arguments"]


def serve(listener: socket.socket, own: dict[str, Any]) -> bool:
    """Fork for each request of a process in the circumstances `own`.

    Returns
    -------
    bool
        True in a fork; False in this process, when the process that has started it has ended.
    """
    running: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of the fork
    callers: dict[int, int] = {}  # forks by the descriptor of their callers' connections
    while True:
        ready, _, _ = select.select([0, listener.fileno(), *running, *callers], [], [])
        for one in ready:
            if one == 0:
                return False
            if one in running:
                pid, connection = running.pop(one)
                callers.pop(connection.fileno(), None)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps({"status": status}).encode() + b"\n")
                connection.close()
                os.close(one)
            elif one in callers:  # the caller was killed
                os.kill(callers.pop(one), signal.SIGKILL)
            elif one == listener.fileno():
                connection, _ = listener.accept()
                request, streams = _received(connection)
                wrong = sorted(name for name in own if request.get(name) != own[name])
                if wrong or len(streams) < 4:
                    for stream in streams:
                        os.close(stream)
                    connection.close()
                    variables = dict(own["environment"].items() ^ request.get("environment", {}).items())
                    print(request.get("arguments"), "is run on its own:", wrong, sorted(variables), flush=True)
                elif (pid := os.fork()) == 0:
                    listener.close()
                    connection.close()
                    for descriptor, (_, other) in running.items():
                        os.close(descriptor)
                        other.close()
                    _become(request, streams)
                    return True
                else:
                    for stream in streams:
                        os.close(stream)
                    with contextlib.suppress(OSError):  # a caller that was killed meanwhile is seen below
                        connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
                    descriptor = os.pidfd_open(pid)
                    running[descriptor] = (pid, connection)
                    callers[connection.fileno()] = pid


def _end(main: Callable[[], object]) -> None:
    """Run a command, and end as Python does, without taking every imported module apart (2 s)."""
    status: object = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
        if not isinstance(status, int | None):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 120  # as Python does
    os._exit(int(status or 0))  # type: ignore[call-overload]


def _main() -> None:
    from importlib import import_module

    own = json.loads(json.dumps(_circumstances()))
    sys.path[0] = str(REAL.parent)
    import_module("affectlake.cli.main").configure_process()
    for name in _MODULES:
        import_module(name)
    gc.freeze()
    threads = {(one / "comm").read_text().strip() for one in Path("/proc/self/task").iterdir()}
    assert threads <= _THREADS, f"a fork would lack the threads {threads - _THREADS}"
    if serve(socket.socket(fileno=int(sys.argv[1])), own):
        module = {"affectlake": "affectlake.cli.main", "dvc": "dvc.cli"}.get(Path(sys.argv[0]).name)
        if module:
            _end(lambda: sys.exit(import_module(module).main()))
        del sys.argv[0]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        _end(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))


if __name__ == "__main__":
    _main()
