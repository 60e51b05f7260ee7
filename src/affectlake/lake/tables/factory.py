"""Tiny valid tables, made from the contracts, for tests and for trying a step by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import polars as pl

from affectlake.errors import UsageError
from affectlake.lake.tables.contracts import Column, contract

AGENT = "tiny"


def tiny_lake(n_stimuli: int = 12) -> dict[str, pl.DataFrame]:
    """Return one small valid table of every contract; references between them are valid too.

    Parameters
    ----------
    n_stimuli : int
        Stimuli in the catalogue, at least 4.
    """
    if n_stimuli < 4:
        raise UsageError("a tiny lake needs at least four stimuli", found=str(n_stimuli))
    made: dict[str, pl.DataFrame] = {}
    for table, rows in _ROWS.items():
        made[table] = _typed(table, rows(n_stimuli))
    return made


def _typed(table: str, columns: Mapping[str, object]) -> pl.DataFrame:
    """Return `columns` in the contract's order and types; missing columns get a legal constant."""
    found = contract(table)
    height = max((len(v) for v in columns.values() if isinstance(v, list | np.ndarray)), default=1)
    data = {c.name: columns.get(c.name, _constant(c)) for c in found.columns}
    frame = pl.DataFrame(
        {name: value if isinstance(value, list | np.ndarray) else [value] * height for name, value in data.items()}
    )
    return frame.cast(pl.DataFrame(found.schema.empty_table()).schema).sort(found.key)


def _constant(column: Column) -> object:
    if column.nullable:
        return None
    if column.name == "agent":
        return AGENT
    if column.values:
        return column.values[0]
    if column.type == "string":
        return "a"
    if column.type in ("bool", "binary"):
        return False if column.type == "bool" else b"\0"
    return column.minimum if column.minimum is not None else 0


def _triplets(n: int) -> np.ndarray:
    return np.array(list(combinations(range(n), 3)))


def _stimuli(n: int) -> dict[str, object]:
    return {
        "stimulus_index": list(range(n)),
        "stimulus_id": [f"tiny-{s:04d}" for s in range(n)],
        "category": ["joy" if s % 2 else "fear" for s in range(n)],
        "n_captions": [1] * n,
    }


def _ratings(n: int) -> dict[str, object]:
    names = [("joy", "category"), ("fear", "category"), ("valence", "dimension")]
    return {
        "stimulus_index": [s for s in range(n) for _ in names],
        "rating": [name for _ in range(n) for name, _ in names],
        "family": [family for _ in range(n) for _, family in names],
        "score": [v for s in range(n) for v in (float(s % 2), float(1 - s % 2), 1.0 + 8 * (s % 2))],
    }


def _families(_n: int) -> dict[str, object]:
    return {
        "family": ["category", "dimension"],
        "scale_low": [0.0, 1.0],
        "scale_high": [1.0, 9.0],
        "neutral": [None, 5.0],
        "are_categories": [True, False],
    }


def _trials(n: int) -> dict[str, object]:
    triplets = _triplets(n)
    return {
        "i": triplets[:, 0],
        "j": triplets[:, 1],
        "k": triplets[:, 2],
        "trial_set": ["main"] * len(triplets),
        "split": [{0: "test", 1: "validation"}.get(t % 5, "train") for t in range(len(triplets))],
    }


def _choices(n: int) -> dict[str, object]:
    triplets = _triplets(n)
    parity = triplets % 2
    minority = (parity.sum(axis=1) == 1).astype(int)
    odd = triplets[np.arange(len(triplets)), (parity == minority[:, None]).argmax(axis=1)]
    columns = {"i": triplets[:, 0], "j": triplets[:, 1], "k": triplets[:, 2], "odd": odd}
    return columns | {"trial_set": ["main"] * len(triplets), "protocol": ["cosine-similarity/1"] * len(triplets)}


def _soft_choices(n: int) -> dict[str, object]:
    triplets = _triplets(n)
    columns = {"i": triplets[:, 0], "j": triplets[:, 1], "k": triplets[:, 2]}
    constant = {"q_i": 0.7, "q_j": 0.2, "q_k": 0.1, "trial_set": "main", "protocol": "forced-choice/caption/1"}
    return columns | {name: [value] * len(triplets) for name, value in constant.items()}


def _anchored_choices(n: int) -> dict[str, object]:
    triplets = _triplets(n)
    i, j, k = triplets.T
    parity_differs = (i + j) % 2 == 1
    winner, loser = np.where(parity_differs, k, j), np.where(parity_differs, j, k)
    columns = {"i": i, "j": j, "k": k, "head": i, "winner": winner, "loser": loser}
    return columns | {"trial_set": ["main"] * len(triplets), "protocol": ["anchored/1"] * len(triplets)}


def _embeddings(n: int) -> dict[str, object]:
    weight = [float(s % 2 == d % 2) for d in range(2) for s in range(n)]
    return {
        "dimension": [d + 1 for d in range(2) for _ in range(n)],
        "stimulus_index": [s for _ in range(2) for s in range(n)],
        "weight": weight,
    }


def _learning_curves(_n: int) -> dict[str, object]:
    return {
        "epoch": [0, 1, 2],
        "train_loss": [None, 1.0, 0.5],
        "objective": [None, 1.1, 0.6],
        "validation_loss": [1.1, 1.0, 0.6],
        "validation_accuracy": [0.4, 0.6, 0.9],
        "n_dimensions": [2, 2, 2],
        "lapse": [0.1, 0.08, 0.05],
        "match": [None, None, 0.995],
        "converged": [None, None, True],
        "kept": [False, False, True],
        "p_chance": [None, None, 1e-9],
    }


def _metrics(_n: int) -> dict[str, object]:
    return {
        "analysis": ["held_out", "rating_correlation"],
        "measure": ["accuracy", "pearson_r"],
        "dimension": [None, 1],
        "rating": [None, "joy"],
        "value": [0.9, 0.5],
        "n": [100, 12],
    }


def _responses(_n: int) -> dict[str, object]:
    return {
        "request_key": [bytes([31, at]) for at in range(3)],
        "i": [0, 0, 0],
        "j": [1, 1, 1],
        "k": [2, 3, 4],
        "shown_1": [0, 3, 1],
        "shown_2": [2, 0, 4],
        "shown_3": [1, 1, 0],
        "answer": ["Video 2 is noticeably different from the other two.", "I cannot say.", None],
        "sampling": ["{}"] * 3,
        "error_kind": [None, None, "timed_out"],
        "error_words": [None, None, "no whole answer within 300 s"],
        "attempts": [1, 2, 5],
    }


def _proposals(_n: int) -> dict[str, object]:
    return {
        "i": [0, 0, 1],
        "j": [1, 1, 2],
        "k": [2, 3, 3],
        "split": ["train", "train", "test"],
        "purpose": ["informative", "informative", "held_out"],
        "information": [0.3, 0.1, None],
    }


def _videos(n: int) -> dict[str, object]:
    return {
        "stimulus_index": list(range(n)),
        "video_path": [f"tiny-{s:04d}.mp4" for s in range(n)],
        "video_sha256": [None if s else "0" * 64 for s in range(n)],
        "duration_s": [None if s else 1.0 for s in range(n)],
        "n_frames": [0 if s else 2 for s in range(n)],
        "unreadable": ["made for a test" if s else None for s in range(n)],
    }


def _frames(_n: int) -> dict[str, object]:
    return {
        "stimulus_index": [0, 0],
        "frame_index": [0, 1],
        "time_s": [0.0, 0.5],
        "frame_sha256": ["1" * 64, "2" * 64],
        "jpeg": [b"\xff\xd8\x01", b"\xff\xd8\x02"],
    }


_ROWS: dict[str, Callable[[int], dict[str, object]]] = {
    "stimuli": _stimuli,
    "exclusions": lambda _n: {"stimulus_id": ["tiny-9999"], "reason": ["made for a test"], "n_rows": [1]},
    "ratings": _ratings,
    "captions": lambda n: {"stimulus_index": list(range(n)), "caption": [f"stimulus {s}" for s in range(n)]},
    "features": lambda n: {"stimulus_index": list(range(n)), "vector": [[float(s % 2), 1.0] for s in range(n)]},
    "triplets": _trials,
    "trials": _trials,
    "participants": lambda _n: {
        "participant": ["p1", "p2"],
        "n_given": [20, 10],
        "n_used": [20, 0],
        "excluded_by": [None, "fewer_than"],
    },
    "attention": lambda _n: {
        "participant": ["p1", "p2"],
        "n_scored": [20, 0],
        "follow_share": [0.8, None],
        "note": [None, "made for a test"],
    },
    "excluded_judgments": lambda _n: {
        "request_key": [bytes([32, at]) for at in range(2)],
        "participant": ["p2", None],
        "rule": ["fewer_than", "catch_trial"],
    },
    "reliability": lambda _n: {
        "measure": ["within_participants", "between_participants"],
        "value": [0.7, 0.5],
        "n": [2, 2],
    },
    "videos": _videos,
    "frames": _frames,
    "motion": lambda _n: {"stimulus_index": [0, 1], "motion_energy": [0.5, None], "note": [None, "made for a test"]},
    "frame_features": lambda n: {
        "stimulus_index": list(range(n)),
        "encoder_sha256": ["0" * 64] * n,
        "feature_mean": [[float(s), 1.0] for s in range(n)],
    },
    "readouts": lambda _n: {
        "dimension": [1, 2],
        "readout_r": [0.5, None],
        "readable": [True, False],
        "note": [None, "made for a test"],
    },
    "saliency": lambda _n: {
        "dimension": [1],
        "stimulus_index": [0],
        "frame_index": [0],
        "frame_value": [0.5],
        "map_height": [1],
        "map_width": [2],
        "saliency_map": [[0.5, -0.1]],
    },
    "responses": _responses,
    "proposals": _proposals,
    "sessions": lambda _n: {
        **{name: ["2026-01-01T09:00:00.000+00:00"] for name in ("joined_at", "consented_at", "last_at")},
        "participant": ["p1"],
        "language": ["en"],
    },
    "choices": _choices,
    "soft_choices": _soft_choices,
    "anchored_choices": _anchored_choices,
    "unparsed": lambda _n: {"i": [0], "j": [1], "k": [3], "trial_set": ["main"], "protocol": ["describe/1"]},
    "order_effects": lambda _n: {"measure": ["chosen_first"], "value": [0.34], "n": [100], "trial_set": ["main"]},
    "easy_trials": lambda _n: {"i": [0], "j": [1], "k": [2], "odd": [1], "margin": [0.9]},
    "easy_scores": lambda _n: {"value": [0.9], "n": [60], "chance": [1 / 3]},
    "embeddings": _embeddings,
    "learning_curves": _learning_curves,
    "fits": lambda _n: {"n_dimensions": [2], "held_out_loss": [0.6], "representative": [True], "converged": [True]},
    "vice_embeddings": lambda n: _embeddings(n) | {"ci_low": [0.1] * 2 * n, "ci_high": [0.9] * 2 * n},
    "fit_methods": lambda _n: {"fit_method": ["spose", "vice"], "n_dimensions": [2, 2], "test_accuracy": [0.6, 0.6]},
    "layouts": lambda n: {"stimulus_index": list(range(n)), "x": [float(s) for s in range(n)], "y": [0.0] * n},
    "metrics": _metrics,
    "voxels": lambda _n: {"voxel_index": [0, 1], "voxel_i": [0, 1], "regions": ["VC", ""], "usable": [True, True]},
    "betas": lambda n: {"stimulus_index": list(range(n)), "pattern": [[float(s % 2), 1.0] for s in range(n)]},
    "shared_stimuli": lambda n: {"stimulus_index": list(range(n)), "shared": [True] * n},
    "stimulus_reliability": lambda n: {"stimulus_index": list(range(n)), "reliability": [0.5] * n},
    "noise_ceilings": lambda _n: {"region": ["VC"], "ceiling_low": [0.1], "ceiling_high": [0.3], "n_subjects": [2]},
    "encoding_maps": lambda _n: {"voxel_index": [0, 1], "encoding_r": [0.5, None]},
    "encoding_weights": lambda _n: {"dimension": [1, 2], "voxel_weights": [[0.1, 0.2], [0.0, -0.5]]},
    "rsa_maps": lambda _n: {"voxel_index": [0, 1], "rho": [0.2, None], "n_members": [2, 1]},
    "encoding_nulls": lambda _n: {"region": ["VC"], "null_scores": [[0.1, -0.1]]},
    "rsa_nulls": lambda _n: {"region": ["VC"], "null_scores": [[0.1, -0.1]]},
    "voxel_reliability": lambda _n: {"voxel_index": [0, 1], "explainable_variance": [0.4, None]},
    "roi_scores": lambda _n: {"region": ["VC"], "region_score": [0.5], "n_voxels": [1]},
    "prevalence": lambda _n: {"region": ["VC"], "n_subjects": [5], "n_significant": [4], "prevalence": [0.8]},
    "group_stats": lambda _n: {"region": ["VC"], "other_agent": ["other"], "n_subjects": [2]},
    "group_maps": lambda _n: {
        "voxel_i": [0, 1],
        "x_mm": [0.0, 2.0],
        "group_value": [0.1, None],
        "n_subjects": [2, 2],
    },
    "basis_stats": lambda _n: {"region": ["VC"], "difference": [0.1], "n_subjects": [2]},
    "variance_partition": lambda _n: {"region": ["VC"], "part": ["people"], "r2": [0.1], "n_voxels": [1]},
    "partition_maps": lambda _n: {"voxel_index": [0, 1], "part": ["people", "people"], "r2": [0.1, None]},
    "partition_winners": lambda _n: {"voxel_index": [0, 1], "best_band": ["people", None], "p": [0.001, 0.4]},
    "brain_generalisation": lambda _n: {"region": ["VC"], "evaluation": [0.1], "n_subjects": [2], "n_stimuli": [9]},
    "brain_generalisation_pairs": lambda _n: {
        "region": ["VC"],
        "other_agent": ["other"],
        "n_subjects": [2],
        "n_stimuli": [9],
    },
    "brain_generalisation_ceilings": lambda _n: {
        "region": ["VC"],
        "ceiling_low": [0.1],
        "n_subjects": [2],
        "n_stimuli": [9],
    },
    "crossnobis_distances": lambda _n: {
        "region": ["VC"],
        "stimulus_index": [0],
        "other_stimulus_index": [1],
        "crossnobis_distance": [-0.01],
    },
    "crossnobis_reliability": lambda _n: {"region": ["VC"], "mean_distance": [0.1], "n_voxels": [9], "n_stimuli": [9]},
    "crossnobis_scores": lambda _n: {"region": ["VC"], "distance_r": [0.1], "n_voxels": [9], "n_stimuli": [9]},
    "partition_stats": lambda _n: {"region": ["VC"], "part": ["people"], "r2": [0.1], "n_subjects": [2]},
    "band_contributions": lambda _n: {
        "region": ["VC"],
        "contribution_method": ["weighted_rsa"],
        "quantity": ["unique"],
        "band": ["people"],
        "contribution": [0.1],
    },
    "contribution_stats": lambda _n: {
        "region": ["VC"],
        "contribution_method": ["weighted_rsa"],
        "quantity": ["unique"],
        "band": ["people"],
        "contribution": [0.1],
        "n_subjects": [2],
    },
    "families": _families,
    "labels": lambda _n: {"dimension": [1, 2], "label_rank": [1, 1], "rating": ["joy", "fear"], "r": [0.9, 0.8]},
    "graph_nodes": lambda _n: {"dimension": [1, 2], "community": [1, 1], "pagerank": [0.5, 0.5], "degree": [1, 1]},
    "graph_edges": lambda _n: {"dimension": [1], "other_dimension": [2], "r": [0.3]},
    "sweeps": lambda _n: {"setting": [1.0, 2.0], "test_loss": [1.0, 0.5], "test_accuracy": [0.5, 0.9]},
    "comparisons": lambda _n: {"against": ["other"], "analysis": ["agreement"], "measure": ["kappa"], "value": [0.5]},
    "community_overlaps": lambda _n: {"against": ["other"], "community": [1], "other_community": [1], "r": [0.5]},
    "alignments": lambda _n: {"against": ["other"], "measure": ["cka"], "value": [0.5]},
    "dimension_matches": lambda _n: {
        "against": ["other"],
        "dimension": [1],
        "match_kind": ["unique"],
        "match_r": [0.1],
    },
    "closeness": lambda _n: {"reference": ["people"], "share_same": [0.5], "n_triplets": [100]},
    "closeness_pairs": lambda _n: {"reference": ["people"], "against": ["other"], "share_difference": [0.1]},
}
