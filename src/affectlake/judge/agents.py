"""Agents: the entries of ``agents`` in ``params.yaml``.

A new kind of agent needs a class here, which is added to `Agent`, and a step that makes its choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field, model_validator

from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.protocol import Modality
from affectlake.judge.respondent import Respondent
from affectlake.tasks import Task
from affectlake.validation import UNIQUE, Strict, Text, check, mistake

Shown = Modality | Literal["clips"]
"""What an agent is shown of a stimulus: captions, single frames of its video, or clips of it."""

ALL_FAMILIES = "concatenated"
"""In place of the name of a family: all families of ratings."""

Scaling = Literal["raw", "midpoint", "minmax", "zscore", "centred"]
"""How scores are scaled before they are compared (:data:`affectlake.judge.vectors.scaling.SCALINGS`)."""


class RatingsAgent(Respondent):
    """An agent that simulates a person's choices from rating vectors, by cosine similarity."""

    is_human: ClassVar[bool] = True
    modality: ClassVar[Shown | None] = None
    protocol: ClassVar[str] = "cosine-similarity/1"

    kind: Literal["ratings"]
    ratings: Text | Annotated[list[Text], Field(min_length=2), UNIQUE] = Field(
        description="Family of ratings that makes the vectors, a list of families, or concatenated for all of them. "
        "The vectors of several families have length 1 each before they are joined.",
        examples=["category", ["category", "dimension"]],
    )
    scaling: Scaling | dict[Text, Scaling] | None = Field(
        default=None,
        description="Scaling of the scores before their cosine: raw, midpoint (minus the neutral score or the middle "
        "of the scale), minmax (each rating from -1 to 1), zscore or centred (each rating minus its mean). With "
        "several families, one name stands for those that are not categories; {FAMILY: NAME} names each. By default, "
        "midpoint for families with a neutral score, and raw for others.",
    )


class TfidfSvd(Strict):
    """Term frequencies of the captions, reduced by truncated SVD. It needs no model weights."""

    modality: ClassVar[Modality] = "captions"

    name: Literal["tfidf-svd"]
    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description="Length of the vectors; auto: 300, or as many as there are components."
    )


class SentenceTransformers(Strict):
    """A sentence encoder of the sentence-transformers library."""

    modality: ClassVar[Modality] = "captions"

    name: Literal["sentence-transformers"]
    model: Text = Field(description="Name of the model, or the folder that holds it.")


Library = Literal["torchvision", "timm", "transformers"]


class VisionEncoder(Strict):
    """A vision model of single frames; the features of a video are the mean over its frames."""

    modality: ClassVar[Modality] = "videos"

    name: Literal["vision"]
    library: Library = Field(description="Whose model it is.")
    model: Text = Field(description="Name of the model, or the folder that holds it.")


class VideoMAE(Strict):
    """A VideoMAE of the transformers library, a model of clips: frames spread over the video in one forward pass."""

    modality: ClassVar[Shown] = "clips"

    name: Literal["videomae"]
    model: Text = Field(description="Name of the model, or the folder that holds it.")


Encoder: TypeAlias = TfidfSvd | SentenceTransformers | VisionEncoder | VideoMAE


class FeaturesAgent(Respondent):
    """A non-generative model: the odd one out is the stimulus with the largest mean cosine distance to the others."""

    protocol: ClassVar[str] = "cosine-distance/1"

    kind: Literal["features"]
    encoder: Annotated[Encoder, Field(discriminator="name")] = Field(
        description="What turns a stimulus's captions, or the frames of its video, into a vector."
    )

    @property
    def modality(self) -> Shown:
        """What the encoder is shown of a stimulus."""
        return self.encoder.modality


Share = Annotated[float, Field(ge=0, lt=1)]


class Inattentive(Strict):
    """The test of whether a participant's answers follow those of the others (:mod:`affectlake.geometry.attention`)."""

    level: float = Field(
        default=0.05, gt=0, lt=1, description="Largest p-value by which answers are told from answers by chance."
    )
    power: float = Field(
        default=0.95,
        ge=0,
        lt=1,
        description="Judge only participants who, with the attention of the median participant, would be told from"
        " chance with at least this probability; others answered too few or too similar triplets.",
    )


class Exclude(Strict):
    """Rules by which judgments of people are left out; each is off unless it is set."""

    faster_than_ms: float | None = Field(default=None, gt=0, description="Leave out judgments that took less time.")
    slower_than_ms: float | None = Field(default=None, gt=0, description="Leave out judgments that took more time.")
    failed_catch: Share | None = Field(
        default=None, description="Leave out participants who failed more than this share of their catch trials."
    )
    fewer_than: int | None = Field(
        default=None, ge=1, description="Leave out participants with fewer judgments than this that are not left out."
    )
    same_position: Share | None = Field(
        default=None, description="Leave out participants of whose choices more than this share fell on one position."
    )
    fast_share: Share | None = Field(
        default=None,
        description="Leave out participants of whose judgments more than this share took less than faster_than_ms.",
    )
    position_run: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Leave out participants whose longest run of answers on one position has a smaller probability than"
        " this if answers fall on all positions equally often.",
    )
    inattentive: Inattentive | None = Field(
        default=None,
        description="Leave out participants whose answers cannot be told from answers by chance, by an embedding of the"
        " others' answers: {level: 0.05, power: 0.95}.",
        examples=[{"level": 0.05, "power": 0.95}],
    )

    @model_validator(mode="after")
    def _has_a_limit(self) -> Exclude:
        if self.fast_share is not None and self.faster_than_ms is None:
            raise mistake(
                "has no effect without faster_than_ms",
                at="fast_share",
                todo="set faster_than_ms, below which a judgment is fast",
            )
        return self


class ImportedAgent(Respondent):
    """People who already gave judgments, which `affectlake import` reads from files."""

    collected_by: ClassVar[str] = "affectlake import"
    own_triplets: ClassVar[bool] = True
    is_human: ClassVar[bool] = True
    modality: ClassVar[Shown | None] = None
    protocol: ClassVar[str]

    exclude: Exclude = Field(
        default_factory=Exclude, description="Rules by which judgments and participants are left out."
    )


class JudgmentsAgent(ImportedAgent):
    """People who gave odd-one-out judgments: which of three stimuli is least like the other two?"""

    protocol: ClassVar[str] = "judgments/1"

    kind: Literal["judgments"]


class AnchoredAgent(ImportedAgent):
    """People who judged anchored triplets: which of two stimuli is more like a third, the head?"""

    task: ClassVar[Task] = "anchored"
    protocol: ClassVar[str] = "anchored/1"

    kind: Literal["anchored"]
    init_std: float = Field(
        default=0.1,
        ge=0,
        description="Standard deviation of the initial weights of its fits, in place of spose.init_std: nearly equal "
        "weights lose dimensions (docs/fits.md).",
    )


Agent: TypeAlias = RatingsAgent | FeaturesAgent | ChatAgent | JudgmentsAgent | AnchoredAgent
AnyAgent = Annotated[Agent, Field(discriminator="kind")]
"""An agent of any kind, as in ``params.yaml``."""

EVERY_KIND: tuple[str, ...] = tuple(get_args(agent.model_fields["kind"].annotation)[0] for agent in get_args(Agent))
"""The kinds of agents."""

SERVER_KINDS = tuple(kind for kind, agent in zip(EVERY_KIND, get_args(Agent), strict=True) if agent.needs_server)
"""The kinds of agents that are asked through a server."""


def parse_agent(name: str, entry: Mapping[str, Any]) -> Agent:
    """Return the agent that an entry of ``agents`` describes.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        ``{kind: ratings, ratings: category}``, ``{kind: features, encoder: {name: tfidf-svd, n_components: 300}}``,
        ``{kind: features, encoder: {name: sentence-transformers, model: NAME_OR_FOLDER}}``, ``{kind: features, encoder:
        {name: vision, library: timm, model: NAME_OR_FOLDER}}``, ``{kind: features, encoder: {name: videomae, model:
        NAME_OR_FOLDER}}``, ``{kind: chat, …}`` (:class:`affectlake.judge.chat.ChatAgent`), ``{kind: judgments,
        exclude: {fewer_than: 20}}`` or ``{kind: anchored}``. ``l1`` is optional here: requests do not depend on it, and
        the entries stored beside journals do not have it.

    Raises
    ------
    UsageError
        If a kind, key or value does not exist, is missing, or has the wrong type.
    """
    found: Agent = check(AnyAgent, {"l1": "auto", **entry}, within=f"agents.{name}")
    return found.named(name)
