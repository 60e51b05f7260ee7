"""The optional section ``brain`` of ``params.yaml``: recordings, encoding and searchlight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from affectlake.pipelines.params.names import subject_names, unique_subject_names
from affectlake.validation import UNIQUE, Strict

_BAND = r"^[a-z0-9][a-z0-9_-]*$"  # `+` has a meaning in tables


class SyntheticBrains(Strict):
    """Simulated subjects on a coarse grid, with planted encoding weights."""

    kind: Literal["synthetic"]
    n_subjects: int = Field(ge=1, description="Number of subjects.")
    voxel_mm: float = Field(ge=4, description="Edge length of a voxel, in mm.")


class BDataBrains(Strict):
    """BData files of the Kamitani laboratory."""

    kind: Literal["bdata"]
    subjects: dict[str, str] = Field(
        min_length=1,
        description="Subjects and the paths of their files, relative to the lake.",
        json_schema_extra=subject_names,
    )


class AtlasFiles(Strict):
    """Regions: an image of integers, and a table of their names."""

    image: str = Field(description="Path of the image.")
    labels: str = Field(description="Path of the table, in the format of BIDS's dseg.tsv.")


class ImageSet(Strict):
    """Patterns of one subject: a 4-D image with one volume per presentation, mask, labels and runs, and regions."""

    bold: str = Field(description="Path of the 4-D image.")
    mask: str = Field(description="Path of the mask.")
    attributes: str = Field(description="Path of the file with the label and run of one volume per line.")
    atlas: AtlasFiles | None = Field(default=None, description="Regions of the subject.")


class TimeSeries(Strict):
    """One run: a 4-D image, its events, and optional motion parameters."""

    bold: str = Field(description="Path of the 4-D image.")
    events: str = Field(description="Path of the events, in the format of BIDS's events.tsv.")
    confounds: str = Field(default="", description="Path of the motion parameters; empty: none.")
    repetition_time_s: float | None = Field(
        default=None, gt=0, description="Repetition time in seconds; null: that of the header and the sidecar."
    )


class SeriesSet(Strict):
    """Time series of one subject, in the order of the runs, with mask and regions."""

    mask: str = Field(description="Path of the mask.")
    runs: list[TimeSeries] = Field(min_length=1, description="The runs, in order.")
    label_column: str = Field(
        default="trial_type", min_length=1, description="Column of the events with the labels of the stimuli."
    )
    atlas: AtlasFiles | None = Field(default=None, description="Regions of the subject.")


def _which(value: object) -> str:
    """Return the name of the model of a subject's files: the tag by which messages find it in the JSON schema."""
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
        description="Subjects and their files: patterns (bold, mask, attributes) or time series (mask, runs).",
        json_schema_extra=subject_names,
    )


class FmriprepBrains(Strict):
    """fMRIPrep's derivatives of a BIDS data set."""

    kind: Literal["fmriprep"]
    derivatives: str = Field(description="Folder of the derivatives.")
    raw: str = Field(description="Folder of the BIDS data set.")
    mask: str | None = Field(
        default=None,
        description="Path of one mask in the output space; null: each participant's own, from `masks` or fMRIPrep.",
    )
    masks: dict[str, str] = Field(
        default_factory=dict,
        description="Participants and the paths of their masks; others have `mask`, or the intersection of the masks "
        "that fMRIPrep wrote for their runs.",
        json_schema_extra=subject_names,
    )
    space: str = Field(
        description="The output space, such as MNI152NLin2009cAsym or T1w; with :res-2 if it has several resolutions."
    )
    task: str = Field(default="", description="The task of the runs; empty: all tasks that have events.")
    label_column: str = Field(
        default="trial_type", min_length=1, description="Column of the events with the labels of the stimuli."
    )
    motion: bool = Field(
        default=True, description="Whether to regress out motion parameters; a run without a confounds file is refused."
    )
    repetition_time_s: float | None = Field(
        default=None, gt=0, description="Repetition time in seconds; null: that of the headers and sidecars."
    )
    participants: Annotated[list[str], UNIQUE] = Field(
        min_length=1, description="Participants, without the prefix sub-.", json_schema_extra=unique_subject_names
    )
    atlas: AtlasFiles | None = Field(default=None, description="Regions in the output space.")
    atlases: dict[str, AtlasFiles] = Field(
        default_factory=dict,
        description="Participants and their own regions; others have `atlas`.",
        json_schema_extra=subject_names,
    )


class EncodingParams(Strict):
    """Voxel-wise encoding."""

    outer_folds: int = Field(
        ge=2, description="Number of folds of the stimuli, each of which is predicted from the others."
    )
    inner_folds: int = Field(ge=2, description="Number of inner folds, with which the penalty is chosen.")
    standardise: bool = Field(description="Whether to divide features by their standard deviation.")
    by_run: bool = Field(description="Whether folds consist of whole runs, if runs are known.")
    permutations: int = Field(
        ge=0, description="Number of permutations of the stimuli for the null distribution; 0: none."
    )


class SearchlightParams(Strict):
    """The searchlight: stimuli, spheres, ranks and null distribution."""

    n_stimuli: int = Field(ge=4, description="Number of the most reliable stimuli to use.")
    selection: Literal["auto", "halves", "others", "all", "ratings"] = Field(
        default="auto",
        description=(
            "How stimuli are selected. halves: those whose patterns agree most between two halves of their "
            "presentations; others: those on whose similarities the subjects agree most with one another; all: every "
            "stimulus; auto: halves if enough stimuli were shown repeatedly, otherwise others, or all if subjects "
            "share no stimuli; ratings: those that the ratings predict best, as in the paper, which favours agents "
            "made of ratings."
        ),
    )
    radius_voxels: float = Field(ge=1, description="Radius of a sphere, in voxels.")
    min_voxels: int = Field(
        ge=3, description="Minimum number of voxels of a sphere; smaller ones, at the edge of the brain, have no value."
    )
    ranks: Literal["counted", "exact"] = Field(
        description="counted: ranks of values counted in 65,536 bins; exact: exact ranks."
    )
    permutations: int = Field(
        ge=0, description="Number of permutations of the stimuli for the null distribution; 0: no p-values."
    )


class PartitionParams(Strict):
    """Variance partitioning: how much of each voxel several bands of features explain, alone and together."""

    bands: dict[Annotated[str, Field(pattern=_BAND)], Annotated[list[str], UNIQUE, Field(min_length=1)]] = Field(
        min_length=1,
        max_length=3,
        description="Names of one to three bands, and the agents whose embeddings are the features of each.",
    )
    nuisance: Annotated[list[Literal["caption_length", "luminance", "frame_change", "motion_energy"]], UNIQUE] = Field(
        default_factory=list,
        description="Features that are part of every model, so that what they explain counts for no band.",
    )
    ratios: Annotated[list[Annotated[float, Field(gt=0, le=1)]], UNIQUE] = Field(
        default=[0.01, 0.1, 1.0],
        min_length=1,
        description="Candidate weights of a band, relative to the band with the largest weight.",
    )


class ContributionParams(Strict):
    """What the bands of `partition` contribute to regions, by methods that answer different questions."""

    methods: Annotated[
        list[Literal["stacked_encoding", "voxel_encoded_rsa", "weighted_rsa", "partial_rsa"]], UNIQUE
    ] = Field(
        default=["stacked_encoding", "voxel_encoded_rsa", "weighted_rsa", "partial_rsa"],
        min_length=1,
        description=(
            "The methods. stacked_encoding: average of the bands' predictions; voxel_encoded_rsa: distances of the "
            "predictions; weighted_rsa: non-negative sum of the distances on each dimension; partial_rsa: correlation "
            "of distances with the other bands held constant."
        ),
    )


class GeneralisationParams(Strict):
    """Bootstrap of the agents' correlations with regions over subjects and stimuli."""

    resamples: int = Field(default=1000, ge=100, description="Number of resamples of subjects and stimuli.")
    relabellings: int = Field(
        default=999, ge=0, description="Number of relabellings of the stimuli that test the noise ceilings; 0: no test."
    )


class CrossnobisParams(Strict):
    """Cross-validated, whitened distances of stimuli with repeated presentations."""

    regularisation: Literal["diagonal", "identity", "none"] = Field(
        default="diagonal",
        description="Target towards which the covariance of the noise of voxels is shrunk: its diagonal, a multiple of "
        "the identity, or none.",
    )
    max_stimuli: int = Field(
        default=300,
        ge=5,
        description="Number of stimuli of a subject above which only those that were presented most often are used.",
    )


class PycortexSurfaces(Strict):
    """A subject's own cortex in pycortex, for flat maps."""

    subject: str = Field(description="Name of the subject in pycortex.")
    transform: str = Field(
        default="", description="Transform from the anatomy to the images; empty: both have the same coordinates."
    )
    filestore: str = Field(default="", description="Folder, relative to the lake; empty: the default of pycortex.")


Sources = SyntheticBrains | BDataBrains | ImageBrains | FmriprepBrains


class Brain(Strict):
    """The section ``brain``. No step depends on `surfaces`, which only ``affectlake maps --surfaces`` uses."""

    sources: Annotated[Sources, Field(discriminator="kind")] = Field(description="Source of the recordings.")
    encoding: EncodingParams
    searchlight: SearchlightParams
    partition: PartitionParams | None = Field(
        default=None, description="Bands of features among which the variance is divided; null: no such step."
    )
    contributions: ContributionParams | None = Field(
        default=None,
        description="Other methods for the bands of `partition`; null: no such step, {}: with the defaults.",
    )
    generalisation: GeneralisationParams | None = Field(
        default=None, description="Bootstrap over subjects and stimuli; null: no such step, {}: with the defaults."
    )
    crossnobis: CrossnobisParams | None = Field(
        default=None,
        description="Cross-validated distances of repeated stimuli; null: no such step, {}: with the defaults.",
    )
    device: Literal["cpu", "cuda"] = Field(description="Device of the searchlight.")
    reference: str = Field(
        default="", description="Agent with which the others are compared in figures; empty: no such comparison."
    )
    cluster_forming_p: float = Field(
        default=0.001, gt=0, lt=0.5, description="One-tailed p of the threshold above which voxels form a cluster."
    )
    mask: Literal["fdr", "fwe", "tfce", "cluster", "none"] = Field(
        default="fdr",
        description=(
            "Voxels that pictures show. fdr: false discovery rate below 0.05; fwe: chance of any false voxel below "
            "0.05; tfce: the same by threshold-free cluster enhancement; cluster: chance of any false cluster below "
            "0.05, by cluster mass; none: all."
        ),
    )
    surfaces: dict[str, PycortexSurfaces] = Field(
        default_factory=dict, description="Subjects and their cortex.", json_schema_extra=subject_names
    )
