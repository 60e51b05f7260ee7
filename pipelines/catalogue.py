"""The catalogue of the steps of a study, in reading order. :mod:`affectlake.pipelines.steps` implements them."""

from __future__ import annotations

from affectlake.pipelines.step import Step
from affectlake.pipelines.steps import brain, choices, embedding, meaning, responses, stimuli, sweeps, videos

STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        stimuli.ingest,
        videos.decode,
        stimuli.sample,
        choices.encode,
        videos.encode_frames,
        choices.choose_by_ratings,
        choices.choose_by_features,
        responses.choose_by_chat,
        embedding.embed,
        embedding.rank_fits,
        embedding.lay_out,
        sweeps.sweep,
        meaning.measure,
        meaning.describe,
        meaning.compare,
        brain.ingest_brains,
        brain.select_stimuli,
        brain.encode_brains,
        brain.search_brains,
        brain.score_regions,
        brain.compare_brains,
    )
}
"""All steps by name. Add a new step here."""
