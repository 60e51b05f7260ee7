"""The sweeps of an agent with a learning rate in cycles, and with the constant rate of earlier releases.

    python benchmarks/sweeps.py LAKE [--agent human-category] [--replicates 1]

Fits each setting of the emotion study's sweeps to the agent's choices in the latest version of a lake, in both ways in
turn and on the same judgments. Means over replicates of the processor seconds of one thread, and of the accuracy on the
test judgments; the last row has the seconds of all fits of a replicate.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
from schedules import judgments

import affectlake
from affectlake import seeds
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.pipelines.steps.sweeps import settings_of, sweep_fits
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score

EARLIER = {
    "cycle_epochs": None, "batch_size": 1024, "learning_rate": 0.003, "max_epochs": 200, "patience": 15,
    "min_delta": 1e-4,
}  # fmt: skip


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("lake")
    asked.add_argument("--agent", default="human-category")
    asked.add_argument("--replicates", type=int, default=1)
    wanted = asked.parse_args()
    own = judgments(affectlake.open(wanted.lake), wanted.agent)
    study = parse(starting_params("emotion"))
    base = study.settings(wanted.agent).replaced(l1=own.l1)
    now = study.sweeps.model_copy(update={"replicates": wanted.replicates})
    ways = {"constant": now.model_copy(update=EARLIER), "in cycles": now}
    found: dict[tuple[str, int], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for one in sweep_fits(now, len(own.train), base.dimensions):
        for name, way in ways.items():
            rng = seeds.generator(0, "sweeps", one.sweep, one.setting, one.replicate)
            chosen = own.train[rng.choice(len(own.train), one.n_judgments, replace=False, shuffle=False)]
            data = training_data(chosen, own.validation, own.n_stimuli, rng)
            begun = time.thread_time()
            fitted = fit(data, settings_of(base, way, one), rng)
            seconds = time.thread_time() - begun
            found[one.sweep, one.setting][name].append((seconds, 100 * score(fitted.weights, own.test).accuracy))
    print(f"| sweep over | {' | '.join(f'{name} (s) | accuracy (%)' for name in ways)} |\n" + "|---" * 5 + "|")
    for (sweep, setting), by_way in sorted(found.items()):
        cells = [cell for name in ways for cell in np.mean(by_way[name], axis=0)]
        print(f"| {sweep}: {setting:,} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    sums = [sum(np.mean(by_way[name], axis=0)[0] for by_way in found.values()) for name in ways]
    print(f"| all | {' | | '.join(f'{one:.0f}' for one in sums)} | |")


if __name__ == "__main__":
    main()
