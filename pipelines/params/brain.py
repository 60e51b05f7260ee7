"""The section `brain:` of ``params.yaml``, which a study may leave out: recordings, encoding, searchlight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from affectlake.pipelines.params.names import subject_names, unique_subject_names
from affectlake.validation import UNIQUE, Strict


class SyntheticBrains(Strict):
    """Made-up subjects on a coarse grid with planted encoding weights."""

    kind: Literal["synthetic"]
    n_subjects: int = Field(ge=1, description="How many subjects.")
    voxel_mm: float = Field(ge=4, description="Edge of a voxel, in mm.")


class BDataBrains(Strict):
    """BData files of the Kamitani laboratory."""

    kind: Literal["bdata"]
    subjects: dict[str, str] = Field(
        min_length=1,
        description="Subject and path of its file; relative paths start at the lake.",
        json_schema_extra=subject_names,
    )


class AtlasFiles(Strict):
    """Regions: an image of whole numbers, and a table of their names."""

    image: str = Field(description="Path of the image.")
    labels: str = Field(description="Path of the table, BIDS's dseg.tsv.")


class ImageSet(Strict):
    """One subject's 4-D image of one volume per presentation, its mask, its label-and-run file, and its regions."""

    bold: str = Field(description="Path of the 4-D image.")
    mask: str = Field(description="Path of the mask.")
    attributes: str = Field(description="Path of the file that has a volume's label and run in each line.")
    atlas: AtlasFiles | None = Field(default=None, description="The subject's regions.")


class TimeSeries(Strict):
    """One run: its 4-D image, its events, and the motion parameters where there are any."""

    bold: str = Field(description="Path of the 4-D image.")
    events: str = Field(description="Path of the events, BIDS's events.tsv.")
    confounds: str = Field(default="", description="Path of the motion parameters; empty: none.")


class SeriesSet(Strict):
    """One subject's time series, in the order of the runs, its mask, and its regions."""

    mask: str = Field(description="Path of the mask.")
    runs: list[TimeSeries] = Field(min_length=1, description="The runs, in their order.")
    atlas: AtlasFiles | None = Field(default=None, description="The subject's regions.")


def _which(value: object) -> str:
    """Return the model of a subject's files; its name is the tag, by which messages find it in the JSON schema."""
    is_series = isinstance(value, SeriesSet) or (isinstance(value, dict) and "runs" in value)
    return SeriesSet.__name__ if is_series else ImageSet.__name__


Images = Annotated[
    Annotated[ImageSet, Tag(ImageSet.__name__)] | Annotated[SeriesSet, Tag(SeriesSet.__name__)], Discriminator(_which)
]


class ImageBrains(Strict):
    """4-D NIfTI images."""

    kind: Literal["images"]
    subjects: dict[str, Images] = Field(
        min_length=1,
        description="Subject and its files: patterns (bold, mask, attributes) or time series (mask, runs).",
        json_schema_extra=subject_names,
    )


class FmriprepBrains(Strict):
    """fMRIPrep's derivatives of a BIDS data set."""

    kind: Literal["fmriprep"]
    derivatives: str = Field(description="Folder of the derivatives.")
    raw: str = Field(description="Folder of the BIDS data set.")
    mask: str = Field(description="Path of a mask in the output space.")
    space: str = Field(description="The output space, such as MNI152NLin2009cAsym.")
    participants: Annotated[list[str], UNIQUE] = Field(
        min_length=1, description="Which participants, without sub-.", json_schema_extra=unique_subject_names
    )
    atlas: AtlasFiles | None = Field(default=None, description="Regions in the output space.")


class EncodingParams(Strict):
    """Voxel-wise encoding."""

    outer_folds: int = Field(ge=2, description="Folds of the stimuli; each is predicted from the others.")
    inner_folds: int = Field(ge=2, description="Folds within those, by which the penalty is chosen.")
    standardise: bool = Field(description="Whether features are divided by their standard deviation.")
    by_run: bool = Field(description="Whether folds are of whole runs, where runs are known.")
    permutations: int = Field(ge=0, description="Relabellings of the stimuli that make the null; 0: no null.")


class SearchlightParams(Strict):
    """The searchlight: its stimuli, spheres and ranks, and its null."""

    n_stimuli: int = Field(ge=4, description="How many of the most reliable stimuli.")
    radius_voxels: float = Field(ge=1, description="Radius of a sphere, in voxels.")
    min_voxels: int = Field(ge=3, description="Smaller spheres, at the edge of the brain, have no value.")
    ranks: Literal["counted", "exact"] = Field(description="counted: into 65,536 bins.")
    permutations: int = Field(ge=0, description="Relabellings of the stimuli that make the null; 0: no levels.")


class PycortexSurfaces(Strict):
    """A subject's own cortex in pycortex, for flat maps."""

    subject: str = Field(description="Its name in pycortex.")
    transform: str = Field(
        default="", description="What takes its anatomy to the images; without one they share their mm."
    )
    filestore: str = Field(default="", description="A folder; relative ones start at the lake; empty: pycortex's own.")


Sources = SyntheticBrains | BDataBrains | ImageBrains | FmriprepBrains


class Brain(Strict):
    """The whole section. No step depends on `surfaces`: they are for ``affectlake maps --surfaces``."""

    sources: Annotated[Sources, Field(discriminator="kind")] = Field(description="Where the recordings are.")
    encoding: EncodingParams
    searchlight: SearchlightParams
    device: Literal["cpu", "cuda"] = Field(description="Of the searchlight.")
    surfaces: dict[str, PycortexSurfaces] = Field(
        default_factory=dict, description="Subjects and their own cortex.", json_schema_extra=subject_names
    )
