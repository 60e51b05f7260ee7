"""The ``sources`` section of ``params.yaml``: where stimuli, ratings, captions and media come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from affectlake.validation import UNIQUE, Strict, Text

FrameSampling = Annotated[
    Literal["equation-1", "qwen2-vl", "qwen2-vl-equation-1"],
    Field(
        description="Frames of a video: equation-1 (the paper's rate, from the first frame on), qwen2-vl (those of the "
        "model's own processor) or qwen2-vl-equation-1 (the processor at the paper's rate)."
    ),
]


class EmotionSources(Strict):
    """The published ratings, captions and videos. Paths are relative to the lake."""

    kind: Literal["emotion"]
    ratings: str | None = Field(description="Path of CowenKeltnerEmotionalVideos.csv; null: not set yet.")
    captions: str | None = Field(description="Path of caption_ck20.csv; null: no captions.")
    exclude: list[int] = Field(description="Videos to exclude, such as duplicates.")
    videos: str | None = Field(default=None, description="Folder of the video files; null: no videos.")
    frame_sampling: FrameSampling = "equation-1"
    families: ClassVar[tuple[str, ...]] = ("category", "dimension")

    @property
    def unset(self) -> Mapping[str, str]:
        """The keys that are null although the study cannot be read without them, and what they should have."""
        return {} if self.ratings else {"sources.ratings": "the path of CowenKeltnerEmotionalVideos.csv"}


class SyntheticSources(Strict):
    """Simulated stimuli, for demonstration and tests."""

    kind: Literal["synthetic"]
    n_stimuli: int = Field(ge=30, description="Number of stimuli to simulate.")
    clips: bool = Field(default=False, description="Whether to render a clip of each stimulus.")
    frame_sampling: FrameSampling = "equation-1"
    families: ClassVar[tuple[str, ...]] = ("category", "dimension")
    unset: ClassVar[Mapping[str, str]] = MappingProxyType({})


class StimulusFile(Strict):
    """The file that lists the stimuli."""

    file: Text = Field(description="Path of the file: CSV, TSV, Excel or Parquet.")
    id_column: Text = Field(description="Column with the id of each stimulus.")
    category_column: Text | None = Field(
        default=None, description="Column with the category of each stimulus; null: no categories in this file."
    )


class RatingFile(Strict):
    """A file of ratings: a column for each rating, or a row for each stimulus and rating."""

    file: Text = Field(description="Path of the file: CSV, TSV, Excel or Parquet.")
    id_column: Text = Field(description="Column with the id of the stimulus of each row.")
    family: Text = Field(description="Name of this family of ratings, which have one scale.")
    scale: tuple[float, float] = Field(
        strict=False, description="Smallest and largest possible score.", examples=[[1, 7]]
    )
    neutral: float | None = Field(
        default=None,
        description="Neutral score of a bipolar scale, from which agents compare distances; null: no such score.",
    )
    are_categories: bool = Field(
        default=False,
        description="Whether the ratings are categories: the highest one is the category of a stimulus, unless the "
        "file of stimuli has categories.",
    )
    columns: Annotated[list[Text], Field(min_length=1), UNIQUE] | None = Field(
        default=None, description="Columns with scores; null: all but the id's. For files without name_column."
    )
    name_column: Text | None = Field(
        default=None, description="Column with the name of the rating, in a file with a row for each rating."
    )
    score_column: Text | None = Field(default=None, description="Column with the score, beside name_column.")
    aggregate: Literal["mean"] | None = Field(
        default=None,
        description="What is taken of several rows of a stimulus, such as those of several raters: mean, or null: "
        "such rows are refused.",
    )


class CaptionFile(Strict):
    """A file of captions: any number of rows for each stimulus."""

    file: Text = Field(description="Path of the file: CSV, TSV, Excel or Parquet.")
    id_column: Text = Field(description="Column with the id of the stimulus of each row.")
    caption_column: Text = Field(description="Column with the text.")


class TableSources(Strict):
    """Stimuli of one's own, in files. Paths are relative to the lake."""

    kind: Literal["tables"]
    stimuli: StimulusFile
    ratings: list[RatingFile] = Field(default_factory=list, description="Files of ratings; []: no ratings.")
    captions: CaptionFile | None = Field(default=None, description="File of captions; null: no captions.")
    media: str | None = Field(
        default=None, description="Folder of videos, images and sounds, named by the ids; null: no media."
    )
    exclude: Annotated[list[Text], UNIQUE] = Field(default_factory=list, description="Ids of stimuli to exclude.")
    frame_sampling: FrameSampling = "equation-1"
    unset: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @property
    def families(self) -> tuple[str, ...]:
        """The families of ratings."""
        return tuple(dict.fromkeys(one.family for one in self.ratings))


Sources: TypeAlias = EmotionSources | SyntheticSources | TableSources
