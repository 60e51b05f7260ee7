"""How often a model without an effect is said to have one, and how well intervals cover, over subjects and stimuli.

    python -m benchmarks.validity.generalisation [--worlds 500] [--stimuli 20 50 100] [--subjects 5]

Every world draws stimuli, subjects and two models of eight features, and 40 voxels per subject, whose weights are the
subject's own. Subjects follow features that no model has and that they share; features of both models alike; those of
the first model; or nothing that they share. Each subject has another strength of signal. The share of worlds with
p < 0.05 is an error rate where the planted effect is zero, and power where it is not. Coverage: how often the interval
contains the mean value of all worlds, which is what the value would be over new subjects and new stimuli.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.generalisation.bootstrap import dual_bootstrap
from affectlake.brain.generalisation.ceilings import ceiling_against_chance
from affectlake.brain.generalisation.estimates import LOWER, OVER, contrasts
from affectlake.brain.generalisation.resamples import draw
from affectlake.rsm import correlation_rsm

V, D = 40, 8
KINDS = ("shared, of no model", "of both models", "of the first model", "not shared")
FIRST, SECOND = np.array([0]), np.array([1])

Array = NDArray[np.float64]


def world(kind: str, n_subjects: int, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the RSMs of subjects and of two models."""
    features = [rng.normal(size=(n, D)) for _ in range(2)]
    other = rng.normal(size=(n, D))
    rsms = []
    for _ in range(n_subjects):
        sources = {
            "shared, of no model": [other],
            "of both models": features,
            "of the first model": features[:1],
            "not shared": [rng.normal(size=(n, D))],
        }[kind]
        signal = sum(source @ rng.normal(size=(D, V)) for source in sources)
        strength = 0.6 * np.exp(0.4 * rng.normal())
        rsms.append(correlation_rsm(strength * signal / signal.std() + rng.normal(size=(n, V))))
    return np.array(rsms), np.array([correlation_rsm(one) for one in features])


def main() -> None:
    """Print the tables of docs/validity.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--relabellings", type=int, default=199)
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--stimuli", type=int, nargs="+", default=[20, 50, 100])
    given = parser.parse_args()
    print(f"{given.worlds} worlds of {given.subjects} subjects, {given.resamples} resamples; % of worlds\n")
    heads = [
        f"{head}: both / subjects / stimuli"
        for head in ("first model above 0", "models differ", "interval of the first model covers", "of the difference")
    ]
    heads += ["ceiling above 0: resampled / relabelled", "first model below the ceiling"]
    print(f"| stimuli | subjects' signal | mean value | {' | '.join(heads)} |")
    print("|---" * (3 + len(heads)) + "|")
    for n in given.stimuli:
        for kind in KINDS:
            rows = [one(kind, given.subjects, n, w, given) for w in range(given.worlds)]
            zero, pair, ceiling, below = (np.array([row[at] for row in rows]) for at in (0, 1, 2, 3))
            values = np.array([row[4] for row in rows])  # (worlds, 2, 3, low value high)
            truth = values[:, :, 0, 1].mean(axis=0)
            inside = (values[..., 0] <= truth[:, None]) & (truth[:, None] <= values[..., 2])
            cells = [zero.mean(axis=0), pair.mean(axis=0), inside[:, 0].mean(axis=0), inside[:, 1].mean(axis=0)]
            text = [" / ".join(f"{100 * one:.1f}" for one in cell) for cell in (*cells, ceiling.mean(axis=0))]
            print(f"| {n} | {kind} | {truth[0]:.3f} | {' | '.join(text)} | {100 * below.mean():.1f} |", flush=True)


def one(
    kind: str, n_subjects: int, n: int, at: int, given: argparse.Namespace
) -> tuple[Array, Array, Array, bool, Array]:
    """Return whether tests of one world are positive, and the ends and values of its intervals."""
    rng = np.random.default_rng([KINDS.index(kind), n, at])
    rsms, models = world(kind, n_subjects, n, rng)
    found = dual_bootstrap(rsms, models, draw(n_subjects, n, given.resamples, rng))
    single = [contrasts(found, FIRST, over=over) for over in OVER]
    pair = [contrasts(found, FIRST, SECOND, over=over) for over in OVER]
    ends = np.array([[[e.low[0], e.value[0], e.high[0]] for e in which] for which in (single, pair)])
    above = [contrasts(found, FIRST, over=over, sides="greater").p[0] < 0.05 for over in OVER]
    chance = ceiling_against_chance(rsms, given.relabellings, rng).p <= 0.05
    ceiling = contrasts(found, np.array([LOWER]), sides="greater").p[0] < 0.05
    below = contrasts(found, FIRST, np.array([LOWER]))
    return (
        np.array(above), np.array([e.p[0] < 0.05 for e in pair]), np.array([ceiling, chance]),
        bool(below.p[0] < 0.05 and below.value[0] < 0), ends,
    )  # fmt: skip


if __name__ == "__main__":
    main()
