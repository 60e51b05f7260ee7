"""The setting ``shareable`` of ``params.yaml``: what of the sources may be given to others.

It is not in the section ``sources``, on which stages depend as a whole if a key of it is missing: no step reads it, so
that a change of it makes no stage stale.
"""

from __future__ import annotations

from pydantic import Field

from affectlake.validation import Strict


class Shareable(Strict):
    """Which parts of the sources may be given to others, if not all or none of them; null: as without the setting."""

    stimuli: bool | None = Field(
        default=None, description="Whether categories in the file of stimuli may be republished."
    )
    ratings: bool | None = Field(default=None, description="Whether the ratings of single stimuli may be republished.")
    captions: bool | None = Field(default=None, description="Whether captions may be, and answers that quote them.")
    media: bool | None = Field(default=None, description="Whether frames of videos and images may be.")
