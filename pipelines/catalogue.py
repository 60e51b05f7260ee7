"""The catalogue of the steps of a study, in reading order. :mod:`affectlake.pipelines.steps` implements them."""

from __future__ import annotations

from affectlake.pipelines.step import Step
from affectlake.pipelines.steps import (
    agent_maps,
    brain,
    brain_contributions,
    brain_distances,
    brain_generalisation,
    brain_group_maps,
    brain_groups,
    brain_maps,
    brain_partition,
    brain_selection,
    choices,
    easy_trials,
    embedding,
    judgments,
    meaning,
    motion,
    responses,
    soft_choices,
    stimuli,
    sweeps,
    vice,
    videos,
)

STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        stimuli.ingest,
        videos.decode,
        motion.measure_motion,
        stimuli.sample,
        easy_trials.choose_easy_trials,
        choices.encode,
        videos.encode_frames,
        videos.encode_clips,
        choices.choose_by_ratings,
        choices.choose_by_features,
        responses.choose_by_chat,
        easy_trials.score_easy_trials,
        soft_choices.weigh_choices,
        judgments.choose_by_judgments,
        judgments.choose_by_anchored,
        embedding.embed,
        embedding.rank_fits,
        embedding.lay_out,
        vice.embed_vice,
        sweeps.sweep,
        meaning.measure,
        meaning.describe,
        meaning.compare,
        agent_maps.align_agents,
        agent_maps.rank_agents,
        brain.ingest_brains,
        brain_selection.share_stimuli,
        brain_selection.select_stimuli,
        brain_maps.encode_brains,
        brain_maps.search_brains,
        brain_partition.partition_variance,
        brain_contributions.estimate_contributions,
        brain_generalisation.generalise_brains,
        brain_distances.measure_distances,
        brain_groups.score_regions,
        brain_groups.compare_brains,
        brain_groups.compare_bases,
        brain_group_maps.group_brain_maps,
    )
}
"""All steps by name. Add a new step here."""
