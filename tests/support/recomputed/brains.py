"""The rows of `shared_stimuli`, `roi_scores`, `group_stats` and `prevalence`, and the maps behind them."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import integrate, optimize, special, stats
from scipy.spatial import KDTree
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.multitest import multipletests

from tests.support.recomputed.cells import Cells, Key, Near, Rows, Says
from tests.support.recomputed.world import Array, Ints, World

PENALTIES = np.logspace(-3, 3, 100)
METHODS = {
    "encoding": ("encoding_maps", "encoding_r", "encoding_nulls"),
    "searchlight": ("rsa_maps", "rho", "rsa_nulls"),
}
"""Maps, their column of values, and null distributions of region scores, by method."""


class Subject(NamedTuple):
    """A subject's stimuli (n,), runs (n,), z-scored patterns (n, v), usable voxels, voxels (v, 3) and their regions."""

    name: str
    stimuli: Ints
    runs: Ints
    patterns: Array
    usable: NDArray[np.bool_]
    voxels: Ints
    inside: dict[str, NDArray[np.bool_]]


def subjects(world: World) -> list[Subject]:
    """Return the subjects, by name."""
    names = sorted(world.tables["voxels"]["subject"].unique())
    return [world.once(("subject", name), lambda name=name: _subject(world, name)) for name in names]


def _subject(world: World, name: str) -> Subject:
    voxels = world.of("voxels", subject=name).sort("voxel_index")
    rows = world.of("betas", subject=name).sort("stimulus_index")
    patterns = np.array(rows["pattern"].to_list(), np.float64)
    usable = np.isfinite(patterns).all(axis=0) & (np.ptp(patterns, axis=0) > 0)
    assert usable.tolist() == voxels["usable"].to_list()
    patterns[:, ~usable] = np.nan
    stimuli, runs = (rows[column].to_numpy().astype(np.int64) for column in ("stimulus_index", "run"))
    places = voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy().astype(np.int64)
    regions = [text.split() for text in voxels["regions"]]
    every = sorted({region for row in regions for region in row})
    inside = {region: np.array([region in row for row in regions]) for region in every}
    inside["all"] = np.ones(len(regions), bool)
    return Subject(name, stimuli, runs, stats.zscore(patterns, axis=0), usable, places, inside)


def bases(world: World, agent: str) -> dict[str, Array]:
    """Return what represents an agent: its representative fit and, for ratings, the vectors of its choices."""
    found, described = {"embedding": world.weights(agent, world.representative(agent))}, world.params.agents[agent]
    if described.kind == "ratings":
        assert described.scaling == "raw"
        found["vectors"] = world.ratings.of(described.ratings)
    return found


def shared(world: World) -> NDArray[np.bool_]:
    """Return which stimuli have weights that differ, for all agents and bases."""
    every = [vectors for agent in world.agents for vectors in bases(world, agent).values()]
    return np.all([np.ptp(vectors, axis=1) > 0 for vectors in every], axis=0)


def shared_stimuli(world: World) -> Rows:
    """Yield the rows of `shared_stimuli`."""
    yield from (((at,), {"shared": bool(one)}) for at, one in enumerate(shared(world)))


def selected(world: World) -> dict[str, Ints]:
    """Return the stimuli on which two subjects agree most, by subject, after comparing them with the table."""
    return world.once(("selected",), lambda: _selected(world))


def _selected(world: World) -> dict[str, Ints]:
    every, n, wanted = subjects(world), world.n_stimuli, world.params.brain.searchlight
    assert wanted.selection == "auto"
    rsms = np.full((len(every), n, n), np.nan)
    for one, rsm in zip(every, rsms, strict=True):
        at = np.flatnonzero(shared(world)[one.stimuli])
        rsm[np.ix_(one.stimuli[at], one.stimuli[at])] = np.corrcoef(one.patterns[at][:, one.usable])
        np.fill_diagonal(rsm, np.nan)
    first, second = rsms
    known = ~np.isnan(first) & ~np.isnan(second)
    agreement = np.array([
        stats.pearsonr(a[use], b[use]).statistic if use.sum() >= 3 else np.nan
        for a, b, use in zip(first, second, known, strict=True)
    ])  # fmt: skip
    best = np.argsort(-np.nan_to_num(agreement, nan=-2))[: min(wanted.n_stimuli, int((~np.isnan(agreement)).sum()))]
    for one in every:
        stored = world.of("stimulus_reliability", subject=one.name).sort("stimulus_index")
        np.testing.assert_array_equal(stored["stimulus_index"], one.stimuli)
        np.testing.assert_allclose(stored["reliability"].fill_null(np.nan), agreement[one.stimuli], atol=1e-6)
        assert stored["selected"].to_list() == np.isin(one.stimuli, best).tolist()
        assert stored["null_selected"].null_count() == len(stored)
        assert stored["selection"].unique().to_list() == ["others"]
    return {one.name: one.stimuli[np.isin(one.stimuli, best)] for one in every}


class Map(NamedTuple):
    """Spearman's ρ around each voxel, and the number of voxels of each sphere."""

    rho: Array
    n_members: list[int]


def searchlight(world: World, one: Subject, vectors: Array) -> Map:
    """Return the correlations of each sphere's similarities with those of vectors, over the selected stimuli."""
    wanted, chosen = world.params.brain.searchlight, selected(world)[one.name]
    near = KDTree(one.voxels).query_ball_point(one.voxels, wanted.radius_voxels + 1e-6)
    spheres = [[voxel for voxel in sphere if one.usable[voxel]] for sphere in near]
    patterns, upper = one.patterns[np.isin(one.stimuli, chosen)], np.triu_indices(len(chosen), 1)
    model = np.round(np.corrcoef(vectors[chosen])[upper], 10)  # equal except for rounding: a tie
    rho = np.full(len(spheres), np.nan)
    for at, sphere in enumerate(spheres):
        if len(sphere) >= wanted.min_voxels and one.usable[at]:
            rho[at] = stats.spearmanr(np.corrcoef(patterns[:, sphere])[upper], model).statistic
    return Map(rho, [len(sphere) for sphere in spheres])


def encoding_r(world: World, one: Subject, vectors: Array) -> Array:
    """Return the cross-validated r of each voxel: folds of runs, and the penalty of each voxel by inner folds."""
    wanted, found = world.params.brain.encoding, np.full(len(one.usable), np.nan)
    assert wanted.by_run
    x, y, runs = vectors[one.stimuli], one.patterns[:, one.usable], np.unique(one.runs)
    place = np.searchsorted(runs, one.runs)
    fold_of_run = np.repeat(range(wanted.outer_folds), [len(part) for part in np.array_split(runs, wanted.outer_folds)])
    outer, inner, r = fold_of_run[place], place % wanted.inner_folds, []
    for fold in range(wanted.outer_folds):
        train, test = outer != fold, outer == fold
        errors = [
            _errors(world, (x[learned], x[tested]), (y[learned], y[tested]))
            for learned, tested in (
                (train & (inner != part), train & (inner == part)) for part in np.unique(inner[train])
            )
        ]
        penalty = PENALTIES[np.mean(errors, axis=0).argmin(axis=0)]
        a, b = _scaled(world, x[train], x[test])
        predicted = Ridge(alpha=penalty).fit(a, y[train]).predict(b)
        r.append(stats.pearsonr(predicted, y[test], axis=0).statistic)
    found[one.usable] = np.mean(r, axis=0)
    return found


def _scaled(world: World, learned: Array, tested: Array) -> list[Array]:
    scaler = StandardScaler(with_std=world.params.brain.encoding.standardise).fit(learned)
    return [scaler.transform(learned), scaler.transform(tested)]


def _errors(world: World, x: tuple[Array, Array], y: tuple[Array, Array]) -> Array:
    """Return the mean squared error of each penalty and voxel (n_penalties, v)."""
    a, b = _scaled(world, *x)
    u, s, v = np.linalg.svd(a, full_matrices=False)
    shrunk, mean = s / (s**2 + PENALTIES[:, None]), y[0].mean(axis=0)  # (n_penalties, k)
    predicted = (b @ v.T)[None] * shrunk[:, None] @ (u.T @ (y[0] - mean)) + mean
    return ((predicted - y[1]) ** 2).mean(axis=1)


def assert_maps(world: World) -> None:
    """Require that the values of all maps are those of the betas."""
    n_maps = 0
    for agent, one in product(world.agents, subjects(world)):
        for basis, vectors in bases(world, agent).items():
            own, n_maps = {"agent": agent, "subject": one.name, "basis": basis}, n_maps + 1
            stored, found = world.of("rsa_maps", **own).sort("voxel_index"), searchlight(world, one, vectors)
            rho = stored["rho"].cast(pl.Float64).fill_null(np.nan).to_numpy()
            np.testing.assert_allclose(rho, found.rho, atol=2e-4)  # 32 bits exchange a few pairs of neighbouring ranks
            assert np.nanmean(np.abs(rho - found.rho) > 3e-6) < 0.05
            assert stored["n_members"].to_list() == found.n_members
            assert set(stored["n_stimuli"]) == {len(selected(world)[one.name])}
            assert stored["bias"].to_list() == [None if np.isnan(value) else 0.0 for value in rho]
            stored = world.of("encoding_maps", **own).sort("voxel_index")
            wanted = encoding_r(world, one, vectors)
            np.testing.assert_allclose(stored["encoding_r"].fill_null(np.nan), wanted, atol=1e-6)
            assert set(stored["n_stimuli"]) == {len(one.stimuli)}
    for table, *_ in METHODS.values():
        assert len(world.tables[table].select("agent", "subject", "basis").unique()) == n_maps


def _values(world: World, method: str, agent: str, subject: str, basis: str = "embedding") -> Array:
    table, column, _ = METHODS[method]
    rows = world.of(table, agent=agent, subject=subject, basis=basis).sort("voxel_index")
    return rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def roi_scores(world: World) -> Rows:
    """Yield the rows of `roi_scores`."""
    for agent, one, method in product(world.agents, subjects(world), METHODS):
        n_stimuli = len(one.stimuli if method == "encoding" else selected(world)[one.name])
        for basis, (region, inside) in product(bases(world, agent), one.inside.items()):
            values = _values(world, method, agent, one.name, basis)
            known = inside & ~np.isnan(values)
            yield (
                (agent, one.name, basis, method, region),
                {
                    "region_score": float(values[known].mean()) if known.any() else None,
                    "region_bias": 0.0 if method == "searchlight" and known.any() else None,
                    "n_voxels": int(known.sum()),
                    "n_stimuli": n_stimuli,
                },
            )


def group_stats(world: World) -> Rows:
    """Yield the rows of `group_stats`; false discovery rates are over all rows of a method, or of the reference."""
    every = sorted({region for one in subjects(world) for region in one.inside})
    for method in METHODS:
        pairs = [(a, b) for a, b in product(sorted(world.agents), repeat=2) if a != b]
        rows: dict[Key, Cells] = {
            (method, region, *pair): _difference(world, method, region, pair) for region, pair in product(every, pairs)
        }
        tested = {key: row["p"] for key, row in rows.items() if row["p"] is not None}
        planned = {
            key: max(p, rows[key]["p_null"] or 0.0) for key, p in tested.items()
            if key[3] == world.params.brain.reference
        }  # fmt: skip
        for name, family in (("p_fdr", tested), ("p_reference_fdr", planned)):
            adjusted = multipletests(list(family.values()), method="fdr_bh")[1] if family else []
            levels = dict(zip(family, adjusted, strict=True))
            for key, row in rows.items():
                row[name] = float(levels[key]) if key in levels else None
        yield from rows.items()


def _difference(world: World, method: str, region: str, pair: tuple[str, str]) -> Cells:
    """Return the paired test of two agents over subjects, and their difference against relabelled stimuli."""
    differences, shares, null = [], [], []
    for one in subjects(world):
        inside = one.inside.get(region, np.zeros(len(one.usable), bool))
        a, b = (_values(world, method, agent, one.name)[inside] for agent in pair)
        known = ~np.isnan(a) & ~np.isnan(b)
        if known.any():
            differences.append(float(np.nanmean(a) - np.nanmean(b)))
            drawn = [_null(world, method, agent, one.name, region) for agent in pair]
            null.append(drawn[0] - drawn[1])
            shares.append(float(np.sign(a - b)[known].mean() / 2 + 0.5))
    tested: Any = stats.ttest_1samp(differences, 0) if len(differences) > 1 and np.ptp(differences) > 0 else None
    level = None
    if null and len(null[0]):
        z = np.abs(stats.zscore([np.mean(differences), *np.mean(null, axis=0)]))
        level = float((1 + (z[1:] >= z[0] - 1e-6).sum()) / len(z))
    return {
        "difference": float(np.mean(differences)) if differences else None,
        "t": float(tested.statistic) if tested else None,
        "p": float(tested.pvalue) if tested else None,
        "p_null": level,
        "n_subjects": len(differences),
        "share_won": float(np.mean(shares)) if shares else None,
        **_effect(tested, len(differences)),
        **_prevalence(np.array(differences), np.array(null)),
    }


def _effect(tested: Any, n: int) -> Cells:
    """Return Hedges' g, the interval of the effect size, and the Bayes factor of a t-test."""
    if not tested:
        return dict.fromkeys(("effect_size", "effect_ci_low", "effect_ci_high", "bayes_factor"))
    t, df = float(tested.statistic), n - 1

    # of the noncentral t-distribution: a normal probability, averaged over quantiles of the denominator
    denominator = stats.chi.ppf((np.arange(20_000) + 0.5) / 20_000, df) / np.sqrt(df)

    def end(share: float) -> float:
        wide = 3 * abs(t) + 9
        return float(optimize.brentq(lambda d: special.ndtr(t * denominator - d).mean() - share, t - wide, t + wide))

    ends = end(0.975), end(0.025)
    prior = stats.norm  # of z, with a Cauchy effect: a normal one of variance 1 / (2 z²)

    def weighed(z: float) -> float:
        wide = 1 + n / (2 * z**2)
        return 2 * prior.pdf(z) * stats.t.pdf(t / np.sqrt(wide), df) / np.sqrt(wide)

    parts = (0, 1e-3, 1e-2, 0.1, 1, 3, 40)
    mean = sum(integrate.quad(weighed, *part, epsrel=1e-10)[0] for part in pairwise(parts))
    factor = special.gamma(df / 2) / special.gamma((df - 1) / 2) / np.sqrt(df / 2) if n > 2 else None
    return {
        "effect_size": factor and float(factor * t / np.sqrt(n)),
        "effect_ci_low": Near(ends[0] / np.sqrt(n), 1e-3 * max(1, abs(ends[0]))),
        "effect_ci_high": Near(ends[1] / np.sqrt(n), 1e-3 * max(1, abs(ends[1]))),
        "bayes_factor": float(mean / stats.t.pdf(t, df)),
    }


def _prevalence(values: Array, null: Array) -> Cells:
    """Return in how many subjects values are above relabelled ones, and the posterior of the prevalence on a grid."""
    names = ("n_significant", "subject_level", "prevalence", "prevalence_low", "prevalence_high", "prevalence_bound")
    n_draws = null.shape[1] if null.ndim == 2 else 0
    if n_draws < 19:
        return dict.fromkeys(names)
    p = (1 + (null >= values[:, None] - 1e-7).sum(axis=1)) / (1 + n_draws)
    k, n, level = int((p < 0.05 + 1e-9).sum()), len(values), math.floor(0.05 * (1 + n_draws) + 1e-9) / (1 + n_draws)
    grid = np.linspace(0, 1, 20_001)
    density = stats.binom.pmf(k, n, level + (1 - level) * grid)
    mass = integrate.cumulative_simpson(density, x=grid, initial=0)
    mass /= mass[-1]
    widths = np.interp(mass + 0.95, mass, grid, right=np.inf) - grid
    low = grid[0] if k == 0 else 1 - _width(grid, mass) if k == n else grid[widths.argmin()]
    high = np.interp(np.interp(low, grid, mass) + 0.95, mass, grid)
    within = [Near(float(value), 1e-3) for value in (grid[density.argmax()], low, high, np.interp(0.05, mass, grid))]
    return dict(zip(names, (k, level, *within), strict=True))


def _width(grid: Array, mass: Array) -> float:
    """Return the width of the interval that ends at 1 and has 95 %."""
    return float(1 - np.interp(0.05, mass, grid))


def prevalence(world: World) -> Rows:
    """Yield the rows of `prevalence`."""
    every = sorted({region for one in subjects(world) for region in one.inside})
    for method, agent, region in product(METHODS, sorted(world.agents), every):
        values, null = [], []
        for one in subjects(world):
            inside = one.inside.get(region, np.zeros(len(one.usable), bool))
            own = _values(world, method, agent, one.name)[inside]
            if not np.isnan(own).all():
                values.append(float(np.nanmean(own)))
                null.append(_null(world, method, agent, one.name, region))
        cells = _prevalence(np.array(values), np.array(null))
        note = None if cells["n_significant"] is not None else Says("relabelling" if values else "no subject has")
        yield (agent, method, region), cells | {"n_subjects": len(values), "note": note}


def _null(world: World, method: str, agent: str, subject: str, region: str) -> Array:
    rows = world.of(METHODS[method][2], agent=agent, subject=subject, basis="embedding", region=region)
    return np.array(rows["null_scores"].item().to_list(), np.float64)
