"""What the client costs on a real vLLM server, and what the order of questions saves there.

    python benchmarks/vllm.py [--rounds 3] [--requests 600] [--concurrency 16]

Needs vLLM's environment (`make .venv-vllm/.installed`). Requests a second of affectlake's collection (answers
journalled and flushed) beside `vllm bench serve`, on one server, with prompts of equal length that no cache has seen,
in turn. Then the share of prompt tokens found in the prefix cache when questions come ordered by first, then second
stimulus, and when they come in random order, with a cache that holds a part of the stimuli only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account
from affectlake.judge.trials.questions import Question
from tests.vllm.servers import ENV, make_models, python, question, vllm

N_TOKENS = 8
MODEL = "tiny-llama"
BENCH = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main;"
    " p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)


def prompts(n: int, seed: str) -> list[str]:
    """Return `n` prompts that share no beginning with those of another seed."""
    rng = random.Random(seed)
    words = ["man", "dog", "beach", "sun", "rain", "party", "snake", "child", "camera", "laughs", "cries", "runs"]
    return [f"{seed} {m}: " + " ".join(rng.choices(words, k=60)) + " Which is odd?" for m in range(n)]


def by_vllm(texts: list[str], port: int, concurrency: int, folder: Path) -> float:
    """Return the requests a second that `vllm bench serve` reaches."""
    data, result = folder / "prompts.jsonl", folder / "result.json"
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    options = {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "host": "127.0.0.1",
        "port": port,
        "model": MODEL,
        "tokenizer": folder / "models" / MODEL,
        "dataset-name": "custom",
        "dataset-path": data,
        "num-prompts": len(texts),
        "custom-output-len": N_TOKENS,
        "max-concurrency": concurrency,
        "temperature": 0,
        "result-dir": folder,
        "result-filename": result.name,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    flags = ["--ignore-eos", "--save-result", "--skip-chat-template", "--disable-tqdm"]
    subprocess.run([python(), "-c", BENCH, *words, *flags], env={**os.environ, **ENV}, check=True, capture_output=True)
    found = json.loads(result.read_text())
    assert found["completed"] == len(texts), found
    return float(found["request_throughput"])


def by_affectlake(asked: list[Question], url: str, concurrency: int, folder: Path) -> Account:
    """Collect into a new journal."""
    journal = Path(tempfile.mkdtemp(dir=folder)) / "answers.sqlite"
    limits = Limits(concurrency=concurrency, start=concurrency)
    with Journal(journal) as opened:
        account = collect(asked, opened, Target((url,), MODEL), limits)
    assert account.n_answered == len(asked), account
    return account


def compare_clients(folder: Path, rounds: int, n: int, concurrency: int) -> None:
    """Print the rates of both clients."""
    rates: dict[str, list[float]] = {"vllm bench serve": [], "affectlake": []}
    with vllm(folder / "models" / MODEL, folder / "client.log", "--max-model-len", "2048") as served:
        port = int(served.url.split(":")[2].split("/")[0])
        by_affectlake([question(0, MODEL, t, max_tokens=8) for t in prompts(50, "warm")], served.url, 8, folder)
        for number in range(rounds):
            rates["vllm bench serve"].append(by_vllm(prompts(n, f"theirs {number}"), port, concurrency, folder))
            sampling = {"max_tokens": N_TOKENS, "temperature": 0, "ignore_eos": True}
            ours = [question(m, MODEL, t, m, **sampling) for m, t in enumerate(prompts(n, f"ours {number}"))]
            rates["affectlake"].append(n / by_affectlake(ours, served.url, concurrency, folder).seconds)
    print(f"\n{n} requests of {N_TOKENS} tokens at concurrency {concurrency}, {rounds} rounds in turn:\n")
    print("| client | requests a second, median | each round |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.1f} | {', '.join(f'{rate:.1f}' for rate in found)} |")
    ratio = statistics.median(rates["affectlake"]) / statistics.median(rates["vllm bench serve"])
    print(f"\naffectlake at {ratio:.1%} of `vllm bench serve`.")


def triplet_questions(n_stimuli: int, n: int) -> list[Question]:
    """Return questions that show three stimuli in some 200 tokens each, ordered by first, then second stimulus."""
    captions = list(map(" ".join, zip(prompts(n_stimuli, "clip"), prompts(n_stimuli, "goes on"), strict=True)))
    triplets = random.Random(0).sample(list(combinations(range(n_stimuli), 3)), n)
    shown = sorted(tuple(random.Random(str(t)).sample(t, 3)) for t in triplets)
    return [
        question(
            m,
            MODEL,
            "".join(f"Video {p}: {captions[s]}\n" for p, s in enumerate(one, 1)),
            one[0],
            max_tokens=1,
            temperature=0,
        )
        for m, one in enumerate(shown)
    ]


def compare_orders(folder: Path, n: int, concurrency: int) -> None:
    """Print the prefix-cache hits of both orders, each on a fresh server."""
    ordered = triplet_questions(n_stimuli=120, n=n)
    mixed = random.Random(1).sample(ordered, len(ordered))
    options = ("--max-model-len", "2048", "--num-gpu-blocks-override", "128")
    print(f"\n{n} questions on 120 stimuli, cache of 128 blocks of 128 tokens, concurrency {concurrency}:\n")
    print("| order of questions | prompt tokens | found in the prefix cache | requests a second |\n|---|---|---|---|")
    for name, asked in (("by first, then second stimulus", ordered), ("random", mixed)):
        with vllm(folder / "models" / MODEL, folder / f"{name[:6]}.log", *options) as served:
            found = by_affectlake(asked, served.url, concurrency, folder)
        share = found.cached_tokens / found.prompt_tokens
        print(f"| {name} | {found.prompt_tokens:,} | {share:.1%} | {n / found.seconds:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--concurrency", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder / "models")
        compare_clients(folder, arguments.rounds, arguments.requests, arguments.concurrency)
        compare_orders(folder, 4 * arguments.requests, arguments.concurrency)


if __name__ == "__main__":
    main()
