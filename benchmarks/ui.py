"""How long the pages of `affectlake ui` take over 7 million choices: the first page, the index, and each filter.

    python benchmarks/ui.py [--stimuli 970] [--agents 5] [--rounds 5]

A lake with made-up choices of several agents is made in a temporary folder, and its pages are asked over HTTP from the
command, as a browser asks them. The index is made in a folder of its own, so the first page is that of a new version.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from affectlake import seeds
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables import parts
from affectlake.lake.tables.contracts import contract
from affectlake.triplet_sampling import sample_dyads

FILTERS = {
    "no filter": "",
    "one agent": "agent=agent-2",
    "one stimulus": "stimulus=900",
    "judgments differ": "agreement=differ",
    "one stimulus, one agent, judgments differ": "stimulus=900&agent=agent-1&agreement=differ",
    "no choice (nothing is found)": "outcome=none",
    "a page in the middle": "agent=agent-3&after=3500000",
    "the page before it": "agent=agent-3&before=3500000",
}


def make_lake(lake: Path, n_stimuli: int, n_agents: int) -> int:
    """Make a lake with one version; return the number of its choices."""
    repository.init(lake, "study: benchmark\nsources: {kind: tables}\n")
    triplets = sample_dyads(n_stimuli, seeds.generator(0, "benchmark"))
    i, j, k = triplets.T
    tables = {
        Output("stimuli"): pl.DataFrame({
            "stimulus_index": np.arange(n_stimuli), "stimulus_id": [f"s{at:04d}" for at in range(n_stimuli)],
            "category": ["joy"] * n_stimuli, "n_captions": [1] * n_stimuli,
        }),
        Output("captions"): pl.DataFrame({
            "stimulus_index": np.arange(n_stimuli), "caption_index": [0] * n_stimuli,
            "caption": [f"A clip in which something happens, number {at}." for at in range(n_stimuli)],
        }),
    }  # fmt: skip
    for at in range(n_agents):
        rng = seeds.generator(at, "answers")
        odd = np.where(rng.random(len(triplets)) < 0.02, i, k)
        tables[Output("choices", f"agent-{at}")] = pl.DataFrame({
            "agent": f"agent-{at}", "protocol": "cosine-similarity/1", "trial_set": "main", "i": i, "j": j, "k": k,
            "repeat": 0, "odd": odd, "tied": False,
        })  # fmt: skip
    for output, frame in tables.items():
        found = contract(output.table)
        kinds = pl.DataFrame(found.schema.empty_table()).schema
        ready = frame.select(found.schema.names).cast(kinds).sort(found.key)
        folder = lake / output.folder
        parts.write_parts(ready, found, folder)
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in tables]
    stage = {"cmd": "affectlake step made --step-version 1", "outs": outs}
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": stage}}))
    record_done(lake, "made")
    repository.publish(lake)
    return n_agents * len(triplets)


def seconds(opener: urllib.request.OpenerDirector, address: str) -> tuple[float, str]:
    """Return the time of a page, from the request to its last byte, and the page."""
    start = time.perf_counter()
    with opener.open(address) as answer:
        text = answer.read().decode()
    return time.perf_counter() - start, text


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=970)
    parser.add_argument("--agents", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake, cache = Path(folder, "lake"), Path(folder, "cache")
        n = make_lake(lake, given.stimuli, given.agents)
        print(f"{n:,} choices of {given.agents} agents over {given.stimuli:,} stimuli, {os.cpu_count()} cores")
        command = [str(Path(sys.executable).parent / "affectlake"), "ui", "--lake", str(lake)]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "AFFECTLAKE_UI_CACHE": str(cache)}
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            print(f"{'the address is printed after':<46}{time.perf_counter() - start:8.3f} s")
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            first, _ = seconds(opener, address)
            print(f"{'first page of a new version':<46}{first:8.3f} s")
            base, start = address.partition("?")[0], time.perf_counter()
            waited, text = seconds(opener, f"{base}judgments")
            print(f"{'first page of judgments, while the index is made':<46}{waited:6.3f} s")
            while "data-again" in text:
                _, text = seconds(opener, f"{base}judgments")
            size = sum(path.stat().st_size for path in cache.rglob("*.parquet"))
            print(f"{'index made after':<46}{time.perf_counter() - start:8.3f} s, {size / 1e6:.1f} MB")
            for name, query in FILTERS.items():
                times = [seconds(opener, f"{base}judgments?{query}")[0] for _ in range(given.rounds)]
                print(f"{name:<46}{statistics.median(times):8.3f} s (longest {max(times):.3f})")
            again, _ = seconds(opener, base)
            print(f"{'first page again':<46}{again:8.3f} s")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
