"""Agents: the entries of ``agents`` in ``params.yaml``.

A new kind of agent needs a class here, which is added to `Agent`, and a step that makes its choices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from affectlake.encoders.settings import VideoMAE as VideoMAE
from affectlake.encoders.settings import VisionEncoder as VisionEncoder
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
        default=0.05,
        gt=0,
        lt=1,
        description="Largest p-value by which answers are distinguished from answers by chance.",
    )
    power: float = Field(
        default=0.95,
        ge=0,
        lt=1,
        description="Judge only participants who, with the attention of the median participant, would be "
        "distinguished from chance with at least this probability; others answered too few or too similar triplets.",
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
        description="Leave out participants whose answers cannot be distinguished from answers by chance, by an "
        "embedding of the others' answers: {level: 0.05, power: 0.95}.",
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


_PART = r"\.?[^./\\][^/\\]*"


def _form(pattern: str, problem: str, wanted: str) -> AfterValidator:
    """Return the validator of a text that must match a pattern."""

    def check_form(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise mistake(problem, wanted=wanted, found=repr(text))
        return text

    return AfterValidator(check_form)


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


_PATH = rf"{_PART}(/{_PART})*"
_LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_RETURN = r"https?://[^\s/?#@]+\S*"
_PARAMETER = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
LakePath = Annotated[
    str,
    _form(_PATH, "is not a path within the lake", "a relative path without .., such as consent.md"),
    _schema(_PATH),
]
"""The path of a file or folder in the lake, which does not lead out of it."""

Language = Annotated[
    str, _form(_LANGUAGE, "is not the tag of a language", "a tag such as en or pt-BR"), _schema(_LANGUAGE)
]
ReturnUrl = Annotated[
    str,
    _form(_RETURN, "is not the address of a website", "such as https://panel.example/done?code=X"),
    _schema(_RETURN),
]
Parameter = Annotated[
    str,
    _form(_PARAMETER, "is not the name of a parameter of an address", "a name such as PROLIFIC_PID"),
    _schema(_PARAMETER),
]

SHIPPED_LANGUAGES = ("en", "de")
"""Languages in which the texts of the task are part of affectlake."""

_NAMED = Annotated[tuple[Text, Text, Text], Field(strict=False)]


class PublishEvery(Strict):
    """How often answers are published while the task is served."""

    answers: int | None = Field(default=1000, ge=1, description="After this many new answers; null: not by number.")
    hours: float | None = Field(default=24, gt=0, description="After this many hours; null: not by time.")


class ExperimentAgent(ImportedAgent):
    """People who are asked in a browser: `affectlake experiment serve` gives the trials and stores the answers."""

    collected_by: ClassVar[str] = "affectlake experiment"
    protocol: ClassVar[str] = "experiment/1"

    kind: Literal["experiment"]
    trials: Literal["main", "validation", "noise_ceiling", "propose"] = Field(
        default="main",
        description="Trials that are given: those of a trial set of the study, or the last proposals of `affectlake "
        "propose`.",
    )
    show: Literal["captions", "images", "videos", "sounds"] = Field(
        default="captions", description="What is shown of a stimulus: its captions, or its file in the media."
    )
    per_participant: int = Field(default=200, ge=1, le=5000, description="Number of trials of a participant.")
    practice: int = Field(
        default=5, ge=0, le=50, description="Number of practice trials, whose right answer is shown; 0: none."
    )
    catch_every: int | None = Field(
        default=25, ge=2, description="Number of trials after which a catch trial follows; null: no catch trials."
    )
    break_every: int | None = Field(
        default=50, ge=2, description="Number of trials after which a break is offered; null: no breaks."
    )
    catch: Literal["ratings"] | Annotated[list[_NAMED], Field(min_length=1), UNIQUE] = Field(
        default="ratings",
        description="Practice and catch trials: ratings (those of easy_trials), or a list of three ids each, the odd "
        "one out last. Of a list, the first ones are for practice.",
        examples=["ratings", [["joy-01", "joy-02", "fear-01"]]],
    )
    repeats: float = Field(
        default=0,
        ge=0,
        le=0.5,
        description="Share of a participant's trials that are trials asked a second time, later in the session.",
    )
    languages: Annotated[list[Language], Field(min_length=1), UNIQUE] = Field(
        default=["en", "de"], description="Languages of the page, the preferred one first."
    )
    texts: LakePath | None = Field(
        default=None, description="Folder in the lake with texts of one's own, such as en.yaml; null: built-in texts."
    )
    consent: LakePath | None = Field(
        default=None,
        description="Text of the consent in the lake, in Markdown; consent.de.md beside consent.md is its German "
        "version. null: a built-in text.",
    )
    return_url: ReturnUrl | None = Field(
        default=None,
        description="Address that opens when all answers have arrived, such as that of a panel; null: none.",
    )
    panel: Parameter | None = Field(
        default=None,
        description="Parameter of the address with a panel's id of the participant, which is stored as a keyed hash "
        "alone; null: participants have random ids.",
        examples=["PROLIFIC_PID"],
    )
    time_limit_s: float | None = Field(
        default=None, gt=0, description="Seconds after which a trial ends without an answer; null: no limit."
    )
    cannot_tell: bool = Field(default=False, description="Whether participants may say that they cannot tell.")
    resume_within_h: float = Field(
        default=24, gt=0, description="Hours after the first visit in which a participant may continue."
    )
    give_again_after_min: float = Field(
        default=30, gt=0, description="Minutes after which a trial without an answer is given to another participant."
    )
    publish_every: PublishEvery = Field(
        default_factory=PublishEvery, description="How often answers are published while the task is served."
    )
    propose_every: int | None = Field(
        default=None,
        ge=1,
        description="With trials: propose, number of new answers after which trials are proposed again; null: only by "
        "`affectlake propose`.",
    )

    @property
    def needs_easy_trials(self) -> bool:
        """Whether its practice or catch trials come from the table ``easy_trials``."""
        return self.catch == "ratings" and (self.practice > 0 or self.catch_every is not None)

    @model_validator(mode="after")
    def _can_be_given(self) -> Self:
        if self.propose_every is not None and self.trials != "propose":
            raise mistake(
                "proposes trials that are not given",
                at="propose_every",
                wanted="with propose_every, trials: propose",
                found=f"trials: {self.trials}",
            )
        others = [one for one in self.languages if one not in SHIPPED_LANGUAGES]
        if others and self.texts is None:
            raise mistake(
                "has languages without texts",
                at="languages",
                found=", ".join(others),
                allowed=f"{', '.join(SHIPPED_LANGUAGES)}; others need `texts`, a folder with a file for each language",
            )
        if self.catch != "ratings":
            self._check_named(self.catch)
        return self

    def _check_named(self, named: list[tuple[str, str, str]]) -> None:
        for number, ids in enumerate(named, 1):
            if len(set(ids)) < 3:
                raise mistake(
                    "has a trial that names a stimulus twice", at="catch", found=f"trial {number}: {', '.join(ids)}"
                )
        wanted = self.practice + (self.catch_every is not None)
        if len(named) < wanted:
            raise mistake(
                "has too few trials",
                at="catch",
                wanted=f"at least {wanted}: {self.practice} for practice, and one to check attention",
                found=str(len(named)),
            )


Agent: TypeAlias = RatingsAgent | FeaturesAgent | ChatAgent | JudgmentsAgent | AnchoredAgent | ExperimentAgent
AnyAgent = Annotated[Agent, Field(discriminator="kind")]
"""An agent of any kind, as in ``params.yaml``."""

EVERY_KIND: tuple[str, ...] = tuple(get_args(agent.model_fields["kind"].annotation)[0] for agent in get_args(Agent))
"""The kinds of agents."""

SERVER_KINDS = tuple(kind for kind, agent in zip(EVERY_KIND, get_args(Agent), strict=True) if agent.needs_server)
"""The kinds of agents that are asked through a server."""

SCHEDULED_KINDS = (*SERVER_KINDS, "experiment")
"""The kinds of agents whose answers a schedule collects or publishes."""


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
        exclude: {fewer_than: 20}}``, ``{kind: anchored}`` or ``{kind: experiment, per_participant: 100}``. ``l1`` is
        optional here: requests do not depend on it, and the entries stored beside journals do not have it.

    Raises
    ------
    UsageError
        If a kind, key or value does not exist, is missing, or has the wrong type.
    """
    found: Agent = check(AnyAgent, {"l1": "auto", **entry}, within=f"agents.{name}")
    return found.named(name)
