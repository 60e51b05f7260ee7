"""The columns that the report reads from each table, required and optional: the columns of versions differ.

These are the columns that figures and numbers use, not those of the current contract: a version that has them is
shown, whatever contract it was written under.
"""

from __future__ import annotations

from typing import NamedTuple


class Columns(NamedTuple):
    """Columns of one table that are read: those without nulls, those that may be null, and those of some contracts.

    A version without an optional column is reported to lack it; a varying column is read where it exists.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    varying: tuple[str, ...] = ()


_FIT = ("agent", "seed")
_EFFECT = ("effect_size", "effect_ci_low", "effect_ci_high", "bayes_factor")
_PREVALENCE = ("n_significant", "prevalence", "prevalence_low", "prevalence_high")
_LEVELS = ("p_null_fdr", "p_fwe", "p_tfce", "p_cluster")
_ESTIMATE = ("value", "ci_low", "ci_high", "chance", "p_value", "n", "note")

COLUMNS: dict[str, Columns] = {
    "stimuli": Columns(("stimulus_index", "stimulus_id"), ("category",)),
    "families": Columns(("family", "are_categories")),
    "ratings": Columns(("stimulus_index", "rating", "family", "score")),
    "captions": Columns(("stimulus_index", "caption"), ("caption_index",)),
    "exclusions": Columns(("stimulus_id",), ("source", "reason", "n_rows")),
    "videos": Columns(("stimulus_index", "n_frames")),
    "frames": Columns(("stimulus_index", "frame_index", "jpeg")),
    "triplets": Columns(("trial_set",), ("split",)),
    "choices": Columns(("agent", "i", "j", "k", "odd"), ("protocol", "trial_set", "tied")),
    "anchored_choices": Columns(("agent", "protocol", "trial_set")),
    "embeddings": Columns((*_FIT, "dimension", "stimulus_index", "weight")),
    "fits": Columns(
        (*_FIT, "representative"), ("n_dimensions",), ("n_epochs", "converged", "match", "p_chance", "note")
    ),
    "readouts": Columns((*_FIT, "dimension", "readable"), ("readout_r", "ci_low", "ci_high", "readout_fdr", "note")),
    "saliency": Columns(
        (
            *_FIT,
            "dimension",
            "stimulus_index",
            "frame_index",
            "chosen_by",
            "frame_value",
            "map_height",
            "map_width",
            "saliency_map",
        )
    ),
    "fit_methods": Columns(
        (*_FIT, "fit_method", "n_dimensions", "used"),
        ("test_accuracy", "ci_low", "ci_high", "reproducibility", "method_r", "converged", "note"),
    ),
    "layouts": Columns((*_FIT, "stimulus_index", "x", "y")),
    "learning_curves": Columns(
        (*_FIT, "epoch", "n_dimensions"),
        ("train_loss", "lapse"),
        (
            *("validation_loss", "validation_accuracy", "test_loss", "test_accuracy"),
            *("objective", "match", "converged", "kept", "p_chance"),
        ),
    ),
    "metrics": Columns(("agent", "analysis", "measure"), ("seed", "dimension", "rating", "setting", *_ESTIMATE)),
    "labels": Columns((*_FIT, "dimension", "label_rank", "rating", "direction", "r", "character")),
    "graph_nodes": Columns((*_FIT, "dimension"), ("community", "pagerank")),
    "graph_edges": Columns((*_FIT, "dimension", "other_dimension", "r")),
    "sweeps": Columns(("agent", "sweep", "setting", "replicate", "test_accuracy", "n_recovered")),
    "comparisons": Columns(("agent", "against", "analysis", "measure"), _ESTIMATE),
    "community_overlaps": Columns(("agent", "community", "against", "other_community", "r")),
    "alignments": Columns(("agent", "against", "measure"), _ESTIMATE),
    "dimension_matches": Columns(
        ("agent", "against", "dimension"), ("match_kind", "matched_dimension", "match_r", "several_r", "note")
    ),
    "closeness": Columns(
        ("reference", "agent", "n_triplets"),
        ("share_same", "ci_low", "ci_high", "agent_rank", "rank_low", "rank_high", "tied_with", "note"),
    ),
    "unparsed": Columns(("agent",), ("unparsed_reason",)),
    "order_effects": Columns(
        ("agent", "protocol", "trial_set", "measure", "n"), ("value", "ci_low", "ci_high", "p_value")
    ),
    "easy_scores": Columns(("agent",), _ESTIMATE),
    "reliability": Columns(("agent", "measure"), _ESTIMATE),
    "voxels": Columns(
        ("subject", "voxel_index", "voxel_i", "voxel_j", "voxel_k", "x_mm", "y_mm", "z_mm"), ("regions",)
    ),
    "encoding_maps": Columns(("agent", "subject", "basis", "voxel_index"), ("encoding_r",), _LEVELS),
    "encoding_weights": Columns(("agent", "subject", "dimension", "voxel_weights")),
    "rsa_maps": Columns(("agent", "subject", "basis", "voxel_index"), ("rho",), _LEVELS),
    "roi_scores": Columns(
        ("agent", "subject", "basis", "method", "region"), ("region_score",), ("region_bias", "n_stimuli")
    ),
    "group_stats": Columns(
        ("method", "region", "agent", "other_agent"), ("p_fdr",), ("p_reference_fdr", *_EFFECT, *_PREVALENCE)
    ),
    "prevalence": Columns(("agent", "method", "region"), (), ("n_subjects", "subject_level", *_PREVALENCE, "note")),
    "brain_generalisation": Columns(
        ("region", "agent"),
        ("evaluation", "ci_low", "ci_high", "p_above_zero_fdr", "generalises_to", "n_subjects", "n_stimuli", "note"),
    ),
    "brain_generalisation_ceilings": Columns(("region",), ("ceiling_low",)),
    "basis_stats": Columns(
        ("agent", "method", "region"), ("difference", "ci_low", "ci_high", "p_both_fdr", "share_won"), _EFFECT
    ),
    "variance_partition": Columns(
        ("subject", "region", "part"),
        ("r2", "ci_low", "ci_high", "p"),
        ("explained_share", "share_low", "share_high", "note"),
    ),
    "group_maps": Columns(
        ("method", "agent", "contrast", "voxel_i", "voxel_j", "voxel_k", "x_mm", "y_mm", "z_mm"),
        ("group_value", "p_fwe", "p_tfce", "p_cluster", "n_subjects", "n_flips"),
    ),
    "partition_winners": Columns(("subject", "voxel_index"), ("best_band",)),
    "partition_stats": Columns(
        ("region", "part"), ("r2", "ci_low", "ci_high", "p_fdr"), ("explained_share", "share_low", "share_high")
    ),
    "band_contributions": Columns(
        ("subject", "region", "contribution_method", "quantity", "band"), ("contribution", "ci_low", "ci_high", "p")
    ),
    "contribution_stats": Columns(
        ("region", "contribution_method", "quantity", "band"), ("contribution", "ci_low", "ci_high", "p_fdr")
    ),
    "noise_ceilings": Columns(("region",), ("ceiling_low", "ceiling_high")),
}
"""The columns that the report reads, by table."""
