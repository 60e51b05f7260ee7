"""How long an answer takes when 500 people answer at once: `affectlake experiment`, and plain backends for jsPsych.

    python benchmarks/experiment.py [--people 500] [--think 2.5] [--seconds 12] [--rate-seconds 5] [--server NAME]

A server and a load generator run as two processes on the loopback. Each participant thinks before an answer, and sends
it; then the same without thinking, for the largest rate. The plain backends are what tutorials of jsPsych show: they
append each POSTed JSON text to one file, and have neither participants nor plans. One is a Node process
(`fs.appendFile`), one a Python process with the HTTP server of affectlake (uvicorn, Starlette); each without and with
an `fsync` before the reply. Node is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations, islice
from pathlib import Path

import aiohttp
import numpy as np
import psutil

from affectlake.experiment.assets import Assets
from affectlake.experiment.offer import Contents, Offer, ServeSettings
from affectlake.experiment.server import serve
from affectlake.experiment.simulated import Habits, SimulatedParticipant, at_random
from affectlake.process.own_requests import listen
from affectlake.triplet_sampling import sample_dyads

NODE = """
const fs = require('fs'), http = require('http');
const [file, sync] = [process.argv[2], process.argv[3] === 'fsync'];
const descriptor = fs.openSync(file, 'a');
http.createServer((request, response) => {
  const parts = [];
  request.on('data', part => parts.push(part));
  request.on('end', () => {
    const done = error => { response.statusCode = error ? 500 : 200; response.end('{}'); };
    const line = JSON.stringify(JSON.parse(Buffer.concat(parts))) + '\\n';
    if (!sync) return fs.appendFile(file, line, done);
    fs.write(descriptor, line, error => error ? done(error) : fs.fsync(descriptor, done));
  });
}).listen(0, '127.0.0.1', function () { console.log(`http://127.0.0.1:${this.address().port}/`); });
"""

SERVERS = ("affectlake", "node", "node-fsync", "python", "python-fsync")


def serve_affectlake(folder: Path, n_trials: int) -> None:
    """Serve a plan of `n_trials` trials."""
    n = 970
    if n_trials >= 7_000_000:
        trials = sample_dyads(n, np.random.default_rng(0), 15)
    else:
        trials = np.array(list(islice(combinations(range(n), 3), n_trials)), dtype=np.int32)
    wanted = np.ones(len(trials), dtype=np.int16)
    offer = Offer(trials, wanted, np.zeros_like(wanted), trials[:10], trials[:5])
    ids = tuple(f"s{index:04d}" for index in range(n))
    contents = Contents("captions", ids, tuple(f"A clip in which {one} happens" for one in ids), (None,) * n)
    settings = ServeSettings("people", 0, per_participant=5000, practice=0, break_every=None)
    serve(
        folder / "experiment.sqlite", offer, contents, settings, Assets(b""), b"k" * 32, ready=_say, port=0,
    )  # fmt: skip


def serve_python(folder: Path, *, is_synced: bool) -> None:
    """Append each POSTed JSON text to a file."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    descriptor = os.open(folder / "data.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(line: bytes) -> None:
        os.write(descriptor, line)
        if is_synced:
            os.fsync(descriptor)

    async def save(request: Request) -> Response:
        await run_in_threadpool(append, json.dumps(await request.json()).encode() + b"\n")
        return Response(b"{}", media_type="application/json")

    listening = listen("127.0.0.1", 0)
    _say(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    app = Starlette(routes=[Route("/", save, methods=["POST"])])
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


def _say(url: str) -> None:
    print(url, flush=True)


async def ask_affectlake(url: str, n_people: int, think_s: float, seconds: float) -> list[float]:
    """Let simulated participants answer; return the seconds of each answer."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        habits = Habits(think_s=think_s, ahead=10)
        people = [SimulatedParticipant(http, url, at_random(seed), seed, habits) for seed in range(n_people)]

        async def one(person: SimulatedParticipant) -> None:
            await asyncio.sleep(random.random() * max(think_s, 1.0))
            await person.run()

        tasks = [asyncio.create_task(one(person)) for person in people]
        while not all(person.outcome.seconds for person in people):
            await asyncio.sleep(0.1)
        await _for(seconds, lambda: [person.outcome.seconds.clear() for person in people], tasks)
    return [taken for person in people for taken in person.outcome.seconds]


async def ask_plain(url: str, n_people: int, think_s: float, seconds: float) -> list[float]:
    """Let pages of jsPsych send each trial; return the seconds of each answer."""
    taken: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one(seed: int) -> None:
            source, number = random.Random(seed), 0
            await asyncio.sleep(source.random() * max(think_s, 1.0))
            while True:
                await asyncio.sleep(think_s * (0.5 + source.random()))
                number += 1
                data = {
                    "participant": f"p{seed}",
                    "trial_index": number,
                    "response": 1,
                    "rt": 1234,
                    "stimuli": [1, 2, 3],
                }
                since = time.perf_counter()
                async with http.post(url, json=data) as reply:
                    assert reply.status == 200
                    await reply.read()
                taken.append(time.perf_counter() - since)

        tasks = [asyncio.create_task(one(seed)) for seed in range(n_people)]
        await asyncio.sleep(2 * max(think_s, 1.0))
        await _for(seconds, taken.clear, tasks)
    return taken


async def _for(seconds: float, clear: Callable[[], object], tasks: list[asyncio.Task[None]]) -> None:
    """Now that everybody is there, forget what was measured, measure for some seconds, and end."""
    clear()
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def started(name: str, folder: Path, n_trials: int) -> tuple[subprocess.Popen[str], str]:
    """Start a server in a process of its own, and return it and its address."""
    if name.startswith("node"):
        program = folder / "server.js"
        program.write_text(NODE)
        command = ["node", str(program), str(folder / "data.jsonl"), "fsync" if name.endswith("fsync") else ""]
    else:
        command = [sys.executable, __file__, "--serve", str(folder), "--server", name, "--trials", str(n_trials)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measured(name: str, n_people: int, think_s: float, seconds: float) -> str:
    """Return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        process, url = started(name, Path(folder), 1_000_000)
        try:
            busy = psutil.Process(process.pid)
            before = sum(busy.cpu_times()[:2])
            asked = [sys.executable, __file__, "--ask", url, "--people", str(n_people), "--server", name]
            text = subprocess.run(
                [*asked, "--think", str(think_s), "--seconds", str(seconds)],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout
            cpu, mib = sum(busy.cpu_times()[:2]) - before, busy.memory_info().rss / 2**20
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    ms = np.array(json.loads(text)) * 1000
    p50, p99, worst = np.percentile(ms, [50, 99, 100])
    return f"| {name} | {len(ms) / seconds:,.0f} | {p50:.1f} | {p99:.1f} | {worst:.0f} | {cpu:.1f} | {mib:.0f} |"


def large_plan() -> str:
    """Return how long the server of a plan of seven million trials takes to start, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        since = time.perf_counter()
        process, _ = started("affectlake", Path(folder), 7_000_000)
        taken, mib = time.perf_counter() - since, psutil.Process(process.pid).memory_info().rss / 2**20
        process.send_signal(signal.SIGTERM)
        process.wait()
    return f"a plan of 7,049,475 trials: starts in {taken:.1f} s (making the plan included), {mib:.0f} MiB"


def main() -> None:
    """Measure every server, or do the part of one process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--think", type=float, default=2.5)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rate-seconds", type=float, default=5)
    parser.add_argument("--server", choices=SERVERS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        if given.server == "affectlake":
            serve_affectlake(given.serve, given.trials)
        else:
            serve_python(given.serve, is_synced=given.server.endswith("fsync"))
        return
    if given.ask is not None:
        ask = ask_affectlake if given.server == "affectlake" else ask_plain
        print(json.dumps(asyncio.run(ask(given.ask, given.people, given.think, given.seconds))))
        return
    names = [given.server] if given.server else [name for name in SERVERS if shutil.which("node") or "node" not in name]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for think_s, seconds in ((given.think, given.seconds), (0.0, given.rate_seconds)):
        print(f"\n{given.people} participants, {think_s} s of thinking")
        print("| server | answers/s | p50 ms | p99 ms | longest ms | CPU s | MiB |\n|---|---|---|---|---|---|---|")
        for name in names:
            print(measured(name, given.people, think_s, seconds), flush=True)
    if "affectlake" in names:
        print(f"\n{large_plan()}")


if __name__ == "__main__":
    main()
