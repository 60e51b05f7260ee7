"""Coverage and error rates of CKA and Procrustes similarity, and of matches of dimensions.

    python -m benchmarks.validity.agent_maps [--studies 200]

Embeddings of 20 and 12 dimensions are sums of independent causes, as in `correlations`, so that the true similarities
follow from the covariances. For matches, the second embedding has independent dimensions. Of the first, four are the
same as four of the second, four are sums of two others of it, and twelve are of their own; each has noise with the
standard deviation of the dimension. Without an effect, all twenty are of their own.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.alignment import alignment
from affectlake.geometry.matching import dimension_matches
from affectlake.pipelines.steps.agent_maps import match_kinds
from benchmarks.validity.cells import mean_share, share

D, D_OTHER, N_CAUSES = 20, 12, 8
Array = NDArray[np.float64]


def loadings(rng: np.random.Generator, common: float) -> tuple[Array, Array]:
    """Return the weights of the causes of both embeddings: common causes, then one of each dimension alone."""
    n = D + D_OTHER
    shared = np.zeros((N_CAUSES, n))
    for column in range(n):
        shared[rng.choice(N_CAUSES, 2, replace=False), column] = common * rng.uniform(0.3, 1, 2)
    both = np.vstack([shared, np.eye(n)]) * rng.uniform(0.3, 1, n)
    return both[:, :D], both[:, D:]


def values(rng: np.random.Generator, shape: tuple[int, ...], normal: bool) -> Array:
    return rng.normal(size=shape) if normal else rng.gamma(0.3, 0.3**-0.5, shape)


def aligned(studies: int, n: int, normal: bool, common: float) -> str:
    """Return a row of the first table."""
    rows = []
    for study in range(studies):
        rng = np.random.default_rng([study, n, int(normal), int(10 * common)])
        a, b = loadings(rng, common)
        causes = values(rng, (n, len(a)), normal)
        cross = a.T @ b
        cka = float((cross**2).sum() / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b))
        rotated = float(np.linalg.svd(cross, compute_uv=False).sum() / np.linalg.norm(a) / np.linalg.norm(b))
        found = alignment(causes @ a, causes @ b, rng, 99)
        one, two, fitted = found
        rows.append((cka, one.value, one.ci_low <= cka <= one.ci_high, one.p_value <= 0.05, rotated, two.value,
                     fitted.value, two.ci_low <= rotated <= two.ci_high, two.p_value <= 0.05))  # fmt: skip
    means, all_rows = np.mean(rows, axis=0), np.array(rows)
    cells = [
        "normal" if normal else "sparse", f"{common:g}", f"{n:,}",
        f"{means[0]:.3f}", f"{means[1]:.3f}", share(all_rows[:, 2] > 0), share(all_rows[:, 3] > 0),
        f"{means[4]:.3f}", f"{means[5]:.3f}", f"{means[6]:.3f}", share(all_rows[:, 7] > 0), share(all_rows[:, 8] > 0),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def matched(studies: int, n: int, normal: bool, effect: bool) -> str:
    """Return a row of the second table."""
    found: dict[str, list[float]] = {"same": [], "sums": [], "own": [], "any": [], "right": []}
    for study in range(studies):
        rng = np.random.default_rng([study, n, int(normal), int(effect), 7])
        other = values(rng, (n, D_OTHER), normal)
        own = values(rng, (n, D), normal)
        if effect:
            own[:, :4] = (other[:, :4] + own[:, :4]) / 2**0.5
            own[:, 4:8] = ((other[:, 4:8] + other[:, 8:]) / 2**0.5 + own[:, 4:8]) / 2**0.5
        matches = dimension_matches(own, other, rng, 999)
        kinds = np.array(match_kinds(matches)[0])
        alone = kinds[8:] if effect else kinds
        found["own"].append(float(np.mean(alone != "unique")))
        found["any"].append(float((alone != "unique").any()))
        if effect:
            found["same"].append(float(np.mean(kinds[:4] == "one_to_one")))
            found["right"].append(float(np.mean(matches.matched[:4] == np.arange(4))))
            found["sums"].append(float(np.mean(kinds[4:8] != "unique")))
    of = {key: mean_share(some) for key, some in found.items()}
    cells = ["normal" if normal else "sparse", "yes" if effect else "no", f"{n:,}", of["same"], of["right"],
             of["sums"], of["own"], of["any"]]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the tables of docs/validity.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    studies = parser.parse_args().studies
    print("| values | common causes | stimuli | true CKA | mean | interval holds it | p ≤ 0.05 | true Procrustes | "
          "mean, held out | mean, fitted | interval holds it | p ≤ 0.05 |")  # fmt: skip
    print("|---" * 12 + "|")
    for normal in (True, False):
        for common in (0, 0.5, 1, 3):
            for n in (30, 300):
                print(aligned(studies, n, normal, common), flush=True)
    print("\n| values | effect | stimuli | same dimensions: `one_to_one` | with the right one | sums of two: matched | "
          "own dimensions: matched | studies with one or more |")  # fmt: skip
    print("|---" * 8 + "|")
    for normal in (True, False):
        for effect in (False, True):
            for n in (30, 300):
                print(matched(studies, n, normal, effect), flush=True)


if __name__ == "__main__":
    main()
