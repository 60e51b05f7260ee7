"""The section `brain:` of ``params.yaml``, which a study may leave out: recordings, encoding, searchlight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SyntheticBrains(_Section):
    """Made-up subjects on a coarse grid with planted encoding weights."""

    kind: Literal["synthetic"]
    n_subjects: int = Field(ge=1)
    voxel_mm: float = Field(ge=4)


class BDataBrains(_Section):
    """BData files of the Kamitani laboratory: subject and path (relative ones start at the lake)."""

    kind: Literal["bdata"]
    subjects: dict[str, str] = Field(min_length=1)


class AtlasFiles(_Section):
    """Regions: an image of whole numbers, and a table (BIDS's dseg.tsv) of their names."""

    image: str
    labels: str


class ImageSet(_Section):
    """One subject's 4-D image of one volume per presentation, its mask, its label-and-run file, and its regions."""

    bold: str
    mask: str
    attributes: str
    atlas: AtlasFiles | None = None


class TimeSeries(_Section):
    """One run: its 4-D image, its events, and the motion parameters where there are any."""

    bold: str
    events: str
    confounds: str = ""


class SeriesSet(_Section):
    """One subject's time series, in the order of the runs, its mask, and its regions."""

    mask: str
    runs: list[TimeSeries] = Field(min_length=1)
    atlas: AtlasFiles | None = None


def _which(value: object) -> str:
    return "series" if isinstance(value, SeriesSet) or (isinstance(value, dict) and "runs" in value) else "patterns"


Images = Annotated[Annotated[ImageSet, Tag("patterns")] | Annotated[SeriesSet, Tag("series")], Discriminator(_which)]


class ImageBrains(_Section):
    """4-D NIfTI images: subject and files."""

    kind: Literal["images"]
    subjects: dict[str, Images] = Field(min_length=1)


class FmriprepBrains(_Section):
    """fMRIPrep's derivatives of a BIDS data set: their folders, the output space, a mask, regions, participants."""

    kind: Literal["fmriprep"]
    derivatives: str
    raw: str
    mask: str
    space: str
    participants: list[str] = Field(min_length=1)
    atlas: AtlasFiles | None = None


class EncodingParams(_Section):
    """Folds of voxel-wise encoding; whether features are standardised, and whether folds follow runs where known.

    `permutations` relabellings of the stimuli make the null of the maps.
    """

    outer_folds: int = Field(ge=2)
    inner_folds: int = Field(ge=2)
    standardise: bool
    by_run: bool
    permutations: int = Field(ge=0)


class SearchlightParams(_Section):
    """How many of the most reliable stimuli, the spheres, the ranks, and the permutations of the null."""

    n_stimuli: int = Field(ge=4)
    radius_voxels: float = Field(ge=1)
    min_voxels: int = Field(ge=3)
    ranks: Literal["counted", "exact"]
    permutations: int = Field(ge=0)


class PycortexSurfaces(_Section):
    """A subject's own cortex in pycortex, for flat maps.

    `subject` is its name there. `transform` takes its anatomy to the images; without one they share their mm.
    `filestore` is a folder (relative ones start at the lake); without one pycortex's own.
    """

    subject: str
    transform: str = ""
    filestore: str = ""


class Brain(_Section):
    """The whole section. No step depends on `surfaces`: they are for ``affectlake maps --surfaces``."""

    sources: SyntheticBrains | BDataBrains | ImageBrains | FmriprepBrains = Field(discriminator="kind")
    encoding: EncodingParams
    searchlight: SearchlightParams
    device: Literal["cpu", "cuda"]
    surfaces: dict[str, PycortexSurfaces] = Field(default_factory=dict)


KEYS: dict[str, list[type[BaseModel]]] = {
    "brain": [Brain],
    "brain.sources": [SyntheticBrains, BDataBrains, ImageBrains, FmriprepBrains],
    "brain.encoding": [EncodingParams],
    "brain.searchlight": [SearchlightParams],
    "brain.surfaces": [PycortexSurfaces],
}
"""The models of each dotted section, for messages that name the legal keys."""
