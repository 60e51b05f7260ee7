"""What asking costs without a model: collecting from a server on loopback that answers at once.

    python benchmarks/collection.py [--questions 1000000] [--bare 20000] [--concurrency 64]

Requests a second, and for each second of the client's processor time, of a bare loop in httpx, one in aiohttp, and of
affectlake's collection, which also routes, retries, parses, journals and flushes. Then one collection of many planned
trials with the memory it takes, and the draining of its journal. The server is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx
import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Progress
from tests.support.questions import make_questions

PADDING = "A man runs along the beach with his dog while the sun goes down behind the hills. " * 6
Ask = Callable[[str, dict[str, Any]], Awaitable[object]]


class Cost(NamedTuple):
    """Requests a second, and for each second of processor time."""

    per_second: float
    per_cpu_second: float


@contextmanager
def server() -> Iterator[str]:
    """Serve from another process; yield the base URL."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parents[1] / "tests" / "support" / "fault_server.py"
    process = subprocess.Popen([sys.executable, script, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def timed(run: Callable[[], object], n: int) -> Cost:
    """Return what `run` costs, which sends `n` requests."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost(n / (time.perf_counter() - wall), n / (time.process_time() - cpu))


async def loop(ask: Ask, url: str, n: int, concurrency: int) -> None:
    """Send `n` requests, `concurrency` at once, and do nothing else."""
    questions = make_questions(n, padding=PADDING)

    async def worker() -> None:
        for question in questions:
            await ask(f"{url}/chat/completions", dict(question.body))

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def by_httpx(url: str, n: int, concurrency: int) -> None:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def ask(place: str, body: dict[str, Any]) -> object:
            return (await client.post(place, json=body)).raise_for_status().json()

        await loop(ask, url, n, concurrency)


async def by_aiohttp(url: str, n: int, concurrency: int) -> None:
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, raise_for_status=True) as session:

        async def ask(place: str, body: dict[str, Any]) -> object:
            async with session.post(place, data=orjson.dumps(body)) as response:
                return orjson.loads(await response.read())

        await loop(ask, url, n, concurrency)


def by_affectlake(url: str, n: int, concurrency: int, told: Callable[[Progress], None] | None = None) -> float:
    """Collect into a new journal and drain it; return the seconds of draining."""
    limits = Limits(concurrency=concurrency, start=concurrency)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Journal(Path(folder) / "answers.sqlite") as journal:
        questions = make_questions(n, padding=PADDING)
        account = collect(questions, journal, Target((url,), "tiny"), limits, progress=told)
        assert (account.ending, account.n_answered) == ("complete", n), account
        started = time.perf_counter()
        n_drained = 0
        while shard := journal.seal(100_000):
            n_drained += sum(len(batch) for batch in journal.read(shard))
            journal.forget(shard)
        assert n_drained == n
        return time.perf_counter() - started


def compare(url: str, n: int, concurrency: int) -> None:
    """Print what the three clients cost."""
    costs = {
        "httpx, bare loop": timed(lambda: asyncio.run(by_httpx(url, n // 5, concurrency)), n // 5),
        "aiohttp, bare loop": timed(lambda: asyncio.run(by_aiohttp(url, n, concurrency)), n),
        "affectlake, journalled": timed(lambda: by_affectlake(url, n, concurrency), n),
    }
    print(f"Concurrency {concurrency}; httpx with {n // 5:,} requests, the others with {n:,}.\n")
    print("| client | requests a second | for each second of processor time |\n|---|---|---|")
    for name, cost in costs.items():
        print(f"| {name} | {cost.per_second:,.0f} | {cost.per_cpu_second:,.0f} |", flush=True)


def collect_many(url: str, n: int, concurrency: int) -> None:
    """Print what one large collection takes."""
    marks: list[tuple[float, int, float]] = []

    def look(progress: Progress) -> None:
        if progress.n_answered >= (len(marks) + 1) * n / 10:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            marks.append((time.perf_counter(), progress.n_answered, memory))

    started, cpu = time.perf_counter(), time.process_time()
    draining = by_affectlake(url, n, concurrency, look)
    seconds, cpu = time.perf_counter() - started - draining, time.process_time() - cpu
    print(f"\n{n:,} planned trials: {seconds:.0f} s, {n / seconds:,.0f} a second; drained in {draining:.0f} s;")
    print(f"{n / cpu:,.0f} for each second of processor time, draining included.\n")
    print("| answered | a second since the last line | peak memory so far (GB) |\n|---|---|---|")
    for (before, n_before, _), (now, n_now, memory) in itertools.pairwise([(started, 0, 0.0), *marks]):
        print(f"| {n_now:,} | {(n_now - n_before) / (now - before):,.0f} | {memory:.2f} |")
    print(f"\nPeak memory of the whole: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--bare", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    with server() as url:
        compare(url, arguments.bare, arguments.concurrency)
        collect_many(url, arguments.questions, arguments.concurrency)


if __name__ == "__main__":
    main()
