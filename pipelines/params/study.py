"""``params.yaml``: every knob of a study, read strictly. All that does not fit is one message."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from affectlake.errors import UsageError
from affectlake.judge.agents import AnyAgent
from affectlake.lake.files import layout
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.mistakes import Mistake, refusal
from affectlake.pipelines.params.brain import Brain
from affectlake.pipelines.params.effects import without_effect
from affectlake.pipelines.params.names import agent_names, schedule_names, study_name, wrong_names
from affectlake.pipelines.params.schedules import Notify, Schedule, wrong_agents
from affectlake.pipelines.params.text import override as override  # noqa: PLC0414 (those who parse ask for it here)
from affectlake.pipelines.params.text import read_yaml, value_at
from affectlake.spose.settings import FewJudgments, Settings, SharedSettings
from affectlake.validation import EACH_NAMED, NULL_AS_EMPTY, UNIQUE, Strict, examine, or_null

if TYPE_CHECKING:
    from affectlake.pipelines.stored import Stored


_UNIQUE: dict[str, Any] = {"uniqueItems": True}


class EmotionSources(Strict):
    """The published ratings, captions and videos. Relative paths start at the lake."""

    kind: Literal["emotion"]
    ratings: str | None = Field(description="Path of CowenKeltnerEmotionalVideos.csv; null: not yet set.")
    captions: str | None = Field(description="Path of caption_ck20.csv; null: no captions.")
    exclude: list[int] = Field(description="Videos to leave out, such as duplicates of others.")
    videos: str | None = Field(default=None, description="Folder of the video files; null: no videos.")


class SyntheticSources(Strict):
    """The demo world."""

    kind: Literal["synthetic"]
    n_stimuli: int = Field(ge=30, description="How many stimuli to make up.")
    clips: bool = Field(default=False, description="Whether a clip of each stimulus is rendered.")


class Triplets(Strict):
    """How many trials of which set are drawn, and which share of the main set is held out."""

    per_dyad: int = Field(ge=1, description="Random thirds for every pair of stimuli.")
    test_fraction: float = Field(gt=0, lt=1, description="Share of the main set that no embedding learns from.")
    prototypes_per_category: int = Field(ge=1, description="Stimuli of each category that the validation set pairs.")
    thirds_per_pair: int = Field(ge=1, description="Random thirds for every pair of prototypes.")
    noise_ceiling: int = Field(ge=1, description="Triplets asked again and again.")
    noise_ceiling_repeats: int = Field(ge=2, description="How often each of those is asked.")


class Spose(SharedSettings):
    """How embeddings are fitted; the sparsity is each agent's own."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], UNIQUE] = Field(
        strict=False, min_length=1, description="One fit for each.", examples=[[0, 1]], json_schema_extra=_UNIQUE
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where fits and vision models run.")
    few: FewJudgments = Field(
        default_factory=FewJudgments,
        description="How agents with l1: auto are fitted, and what `affectlake propose` fits.",
    )


class Geometry(Strict):
    """Settings of the analyses: classes, permutations and resamples, the map, the emotion graph and the labels."""

    min_category_size: int = Field(ge=2, description="Smaller categories are not classified.")
    permutations: int = Field(ge=1, description="Of the nulls of the analyses.")
    resamples: int = Field(ge=2, description="Bootstrap resamples of the stimuli, for intervals.")
    perplexity: float = Field(gt=1, description="Of the t-SNE.")
    edge_threshold: float = Field(
        ge=0, lt=1, description="Two dimensions are joined in the emotion graph when they correlate more."
    )
    absolute_edges: bool = Field(description="true: |r| decides; false: r does.")
    label_gap: float = Field(gt=0, le=1, description="A label this far above the next is the last.")


class Sweeps(Strict):
    """Further fits, to see where more dimensions or judgments stop helping."""

    dimensions: Annotated[list[Annotated[int, Field(ge=1)]], UNIQUE] = Field(
        description="Numbers of dimensions; [] skips this sweep.", json_schema_extra=_UNIQUE
    )
    n_judgments: int = Field(ge=100, description="Judgments of each fit of the sweep over dimensions.")
    judgments: Annotated[list[Annotated[int, Field(ge=100)]], UNIQUE] = Field(
        description="Numbers of judgments; [] skips this sweep.", json_schema_extra=_UNIQUE
    )
    replicates: int = Field(ge=1, description="Random subsets of the judgments, at every setting.")
    recovered_r: float = Field(
        gt=0, lt=1, description="A dimension is recovered when one of the sweep's correlates so with it."
    )
    share: float = Field(gt=0, lt=1, description="Saturated: this share of the best mean.")
    batch_size: int = Field(ge=1, description="Triplets a step.")
    learning_rate: float = Field(gt=0, description="Of Adam.")
    max_epochs: int = Field(ge=1, description="Maximum number of passes over the training triplets.")
    patience: int = Field(ge=1, description="Stop after this many epochs without an improvement of min_delta.")
    min_delta: float = Field(ge=0, description="Nats by which the held-out loss has to fall.")


class Proposals(Strict):
    """How `affectlake propose` chooses what to ask next."""

    n_members: int = Field(default=4, ge=2, description="Embeddings fitted; where they differ, an answer tells most.")
    share: float = Field(default=0.06, gt=0, le=1, description="Share of the open trials that is drawn from.")
    random_per_stimulus: int = Field(
        default=10, ge=1, description="Judgments for each stimulus before anything is chosen; until then at random."
    )
    held_out: int = Field(default=5000, ge=100, description="Judgments to stop and to test by, drawn at random.")


def _schedule_names_or_null(schema: dict[str, Any]) -> None:
    schedule_names(schema)
    or_null(schema)


class Params(Strict):
    """A study's parameters: the content of ``params.yaml``."""

    study: str = Field(description="The study's name.", json_schema_extra=study_name)
    seed: int = Field(ge=0, description="The one root seed; every random number is drawn under it.")
    sources: Annotated[EmotionSources | SyntheticSources, Field(discriminator="kind")] = Field(
        description="Where the stimuli come from."
    )
    triplets: Triplets
    agents: Annotated[dict[str, AnyAgent], EACH_NAMED] = Field(
        min_length=1, description="Who answers the triplets, by name.", json_schema_extra=agent_names
    )
    spose: Spose
    geometry: Geometry
    sweeps: Sweeps
    proposals: Proposals = Field(default_factory=Proposals)
    brain: Brain | None = None
    schedules: Annotated[dict[str, Schedule], EACH_NAMED, NULL_AS_EMPTY] = Field(
        default_factory=dict,
        description="Collections that recur, by name.",
        json_schema_extra=_schedule_names_or_null,
    )
    notify: Notify | None = Field(default=None, description="Where failed runs of schedules are reported.")

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _text: bytes = PrivateAttr(default=b"")

    @property
    def raw(self) -> Mapping[str, Any]:
        """The file as it was read, for records and for :meth:`at`."""
        return self._raw

    @property
    def text(self) -> bytes:
        """The content of the lake's file, from which all this was read; empty where it was not read from a lake."""
        return self._text

    @property
    def fit_seeds(self) -> tuple[int, ...]:
        """The seeds of the fits."""
        return self.spose.seeds

    @property
    def device(self) -> str:
        """Where fits and vision models run."""
        return self.spose.device

    @property
    def auto(self) -> frozenset[str]:
        """Agents whose l1 is ``auto``: fitted as to few judgments."""
        return frozenset(name for name, agent in self.agents.items() if agent.l1 == "auto")

    def fitted(self, stored: Stored) -> list[str]:
        """Return the agents that have an embedding, in the file's order.

        Parameters
        ----------
        stored : Stored
            What the lake holds: agents that need a server have an embedding once they have enough answers.
        """
        return [name for name, agent in self.agents.items() if not agent.needs_server or name in stored.fittable]

    def settings(self, agent: str) -> Settings:
        """Return how an agent is fitted; of one whose l1 is ``auto`` all but what :meth:`candidates` adds."""
        shared = {key: getattr(self.spose, key) for key in SharedSettings.model_fields}
        l1 = self.agents[agent].l1
        return Settings(l1=0.0 if l1 == "auto" else l1, **shared)

    def candidates(self, agent: str, n_judgments: int, n_stimuli: int) -> list[Settings]:
        """Return how an agent's embedding may be fitted to `n_judgments`: in one way, unless its l1 is ``auto``."""
        base = self.settings(agent)
        return self.spose.few.candidates(base, n_judgments, n_stimuli) if agent in self.auto else [base]

    def at(self, key: str) -> Any:
        """Return the value at a dotted `key` of the file, or None where it has none."""
        return value_at(self.raw, key)


def load(lake: Path) -> Params:
    """Read and check the lake's ``params.yaml``."""
    path = lake / layout.PARAMS
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", found=str(error), todo="save it as UTF-8") from error
    try:
        found = parse(text, str(path))
    except UsageError as error:
        refuse_unjoined(lake)  # conflicts that Git has left in it have a remedy of their own
        restored = "correct it; `affectlake restore` brings the latest version's back and keeps it aside"
        error.todo = error.todo or restored
        raise
    found._text = content
    return found


def parse(text: str, name: str = "params.yaml") -> Params:
    """Check the text of a ``params.yaml``.

    Parameters
    ----------
    text : str
        The YAML.
    name : str
        What to call it in messages.

    Raises
    ------
    UsageError
        If it is not YAML, a name cannot be used, a key is missing, unknown or of the wrong type, a value is out of
        range, or a setting has no effect. Everything that does not fit is in the one message.
    """
    raw = read_yaml(text, name)
    params, mistakes = examined(raw)
    if params is None:
        raise refusal(name, mistakes)
    params._raw = raw
    return params


def examined(raw: object) -> tuple[Params | None, list[Mistake]]:
    """Return the parameters in a ``params.yaml`` as YAML gave it, or None and everything that does not fit."""
    own = [*wrong_names(raw), *without_effect(raw), *wrong_agents(raw)]
    found, others = examine(Params, raw)
    known = {one.path for one in own}
    mistakes = [*own, *(one for one in others if one.path not in known)]
    return None if mistakes else found, mistakes
