"""The parameters of a study, read strictly from ``params.yaml``. All mistakes are reported in one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from affectlake.errors import UsageError
from affectlake.judge.agents import AnchoredAgent, AnyAgent, Scaling
from affectlake.judge.chat import OWN_NAMES, OWN_PROTOCOLS, OwnProtocols
from affectlake.lake.files import layout
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.mistakes import Mistake, refusal
from affectlake.pipelines.params import protocols
from affectlake.pipelines.params.about import About
from affectlake.pipelines.params.attribution import Attribution
from affectlake.pipelines.params.brain import Brain
from affectlake.pipelines.params.effects import without_effect
from affectlake.pipelines.params.families import wrong_families
from affectlake.pipelines.params.names import agent_names, schedule_names, study_name, wrong_names
from affectlake.pipelines.params.notify import Notify
from affectlake.pipelines.params.schedules import Schedule, wrong_agents
from affectlake.pipelines.params.shareable import Shareable
from affectlake.pipelines.params.sources import Sources
from affectlake.pipelines.params.text import override as override  # noqa: PLC0414 (re-exported beside `parse`)
from affectlake.pipelines.params.text import read_yaml, value_at
from affectlake.spose.settings import CYCLE_EPOCHS, FewJudgments, Settings, SharedSettings
from affectlake.spose.vice.settings import ViceSettings
from affectlake.validation import EACH_NAMED, NULL_AS_EMPTY, UNIQUE, Strict, Text, examine, or_null

if TYPE_CHECKING:
    from affectlake.pipelines.stored import Stored


_UNIQUE: dict[str, Any] = {"uniqueItems": True}


class Wording(Strict):
    """Words of the report that depend on what the study is about."""

    title: Text | None = Field(default=None, description="Heading of the report.", examples=["How do faces differ?"])
    question: Text | None = Field(
        default=None, description="The question about three stimuli.", examples=["Which face is the odd one out?"]
    )
    ratings: Text | None = Field(
        default=None, description="What dimensions are compared with.", examples=["trait ratings"]
    )
    families: dict[Text, Text] = Field(
        default_factory=dict, description="Names of families of ratings in the plural.", examples=[{"trait": "traits"}]
    )


class Triplets(Strict):
    """Numbers of trials in each trial set, and the shares of the main set that are held out."""

    per_dyad: int | None = Field(
        default=None, ge=1, description="Number of random third stimuli for each pair of stimuli; null: set n instead."
    )
    n: int | None = Field(
        default=None,
        ge=0,
        description="Number of triplets of the main set, drawn at random from all triplets, in place of per_dyad; 0: "
        "none, for agents whose judgments exist already.",
    )
    test_fraction: float = Field(
        gt=0, lt=1, description="Share of the main set that is held out from fits and used once, to score them."
    )
    validation_fraction: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Share of the main set that steers the fits (early stopping, prior, lapses) without being learned.",
    )
    prototypes_per_category: int = Field(
        ge=1, description="Number of stimuli per category that are paired in the validation set."
    )
    thirds_per_pair: int = Field(ge=1, description="Number of random third stimuli for each pair of prototypes.")
    noise_ceiling: int = Field(ge=0, description="Number of triplets that are asked repeatedly; 0: none.")
    noise_ceiling_repeats: int = Field(ge=2, description="Number of times that each of these triplets is asked.")


class Spose(SharedSettings):
    """Settings of the fits of embeddings; the sparsity is set for each agent."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], UNIQUE] = Field(
        strict=False,
        min_length=1,
        description="Seeds of the fits, one fit per seed.",
        examples=[[0, 1]],
        json_schema_extra=_UNIQUE,
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Device of fits and vision models.")
    few: FewJudgments = Field(
        default_factory=FewJudgments,
        description="Settings of the fits of agents with l1: auto, and of `affectlake propose`.",
    )


class Vice(ViceSettings):
    """Fits of variational SPoSE beside those of SPoSE (`docs/fits.md`)."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], UNIQUE] = Field(
        default=(0, 1),
        strict=False,
        min_length=1,
        description="Seeds of the fits. Results are those of the first one; the others show how reproducible it is.",
        examples=[[0, 1]],
        json_schema_extra=_UNIQUE,
    )


class Geometry(Strict):
    """Settings of the analyses: classification, resampling, stimulus map, emotion graph and labels."""

    min_category_size: int = Field(ge=2, description="Minimum size of a category; smaller ones are not classified.")
    permutations: int = Field(ge=1, description="Number of permutations for the null distributions.")
    resamples: int = Field(ge=2, description="Number of bootstrap resamples of the stimuli, for confidence intervals.")
    perplexity: float = Field(gt=1, description="Perplexity of the t-SNE.")
    edge_threshold: float = Field(
        ge=0, lt=1, description="Correlation above which two dimensions are connected in the emotion graph."
    )
    absolute_edges: bool = Field(description="Whether |r| is compared with edge_threshold, rather than r.")
    label_gap: float = Field(
        gt=0, le=1, description="Gap in |r| to the next label from which no further label is given."
    )


class Sweeps(Strict):
    """Fits with other numbers of dimensions and judgments, to see where accuracy saturates."""

    dimensions: Annotated[list[Annotated[int, Field(ge=1)]], UNIQUE] = Field(
        description="Numbers of dimensions; []: no such sweep.", json_schema_extra=_UNIQUE
    )
    n_judgments: int = Field(ge=100, description="Number of judgments of each fit of the sweep over dimensions.")
    judgments: Annotated[list[Annotated[int, Field(ge=100)]], UNIQUE] = Field(
        description="Numbers of judgments; []: no such sweep.", json_schema_extra=_UNIQUE
    )
    replicates: int = Field(ge=1, description="Number of random subsets of the judgments at each setting.")
    recovered_r: float = Field(
        gt=0, lt=1, description="Correlation with a dimension of the sweep's fit from which a dimension is recovered."
    )
    share: float = Field(gt=0, lt=1, description="Share of the best mean from which a curve is saturated.")
    batch_size: int = Field(
        default=1024, ge=1, description="Number of triplets per update; with cycle_epochs, it follows their number."
    )
    learning_rate: float = Field(
        gt=0, description="Learning rate of Adam; with cycle_epochs, that of the first epoch of a cycle."
    )
    cycle_epochs: int | None = Field(default=None, ge=2, description=CYCLE_EPOCHS)
    max_epochs: int = Field(ge=1, description="Maximum number of passes over the training triplets.")
    patience: int = Field(ge=1, description="Stop after this many epochs without an improvement of min_delta.")
    min_delta: float = Field(ge=0, description="Minimum decrease of the validation loss, in nats.")


class EasyTrials(Strict):
    """Trials whose odd one out is known from ratings. A collection asks a chat agent these before any other."""

    n: int = Field(default=60, ge=20, le=1000, description="Number of easy trials.")
    ratings: Text = Field(
        description="Family of ratings from which they are known, or concatenated for all of them.",
        examples=["category"],
    )
    scaling: Scaling | None = Field(
        default=None, description="Scaling of the ratings, as of an agent of kind ratings; null: that of the family."
    )


class Proposals(Strict):
    """Settings of `affectlake propose`, which chooses the triplets to ask next."""

    n_members: int = Field(
        default=4, ge=2, description="Number of embeddings; where they disagree, an answer is informative."
    )
    share: float = Field(
        default=0.06,
        gt=0,
        le=1,
        description="Share of the open trials, the most informative ones, from which proposals are drawn.",
    )
    random_per_stimulus: int = Field(
        default=10, ge=1, description="Judgments per stimulus below which proposals are drawn at random."
    )
    held_out: int = Field(
        default=5000,
        ge=100,
        description="Number of held-out judgments, drawn at random: for validation, and as many for testing.",
    )


def _schedule_names_or_null(schema: dict[str, Any]) -> None:
    schedule_names(schema)
    or_null(schema)


class Params(Strict):
    """A study's parameters: the content of ``params.yaml``."""

    study: str = Field(description="Name of the study.", json_schema_extra=study_name)
    seed: int = Field(ge=0, description="Root seed, from which all random numbers are derived.")
    about: About | None = Field(
        default=None, description="What the lake is, for its README, citations and archives; null: not stated."
    )
    shareable: bool | Shareable | None = Field(
        default=None,
        description="Whether the terms of the sources allow to republish their content (captions, ratings of single "
        "stimuli, frames), which reports and archives otherwise leave out; null: not for kind emotion.",
    )
    wording: Wording | None = Field(
        default=None, description="Words of the report; null: those of the kind of sources."
    )
    sources: Annotated[Sources, Field(discriminator="kind")] = Field(description="Source of the stimuli.")
    triplets: Triplets
    agents: Annotated[dict[str, AnyAgent], EACH_NAMED] = Field(
        min_length=1, description="Agents that judge the triplets, by name.", json_schema_extra=agent_names
    )
    spose: Spose
    geometry: Geometry
    sweeps: Sweeps
    proposals: Proposals = Field(default_factory=Proposals)
    easy_trials: EasyTrials | None = Field(
        default=None, description="Trials that chat agents are asked first; null: none."
    )
    vice: Vice | None = Field(
        default=None, description="Fits of variational SPoSE, with intervals of weights; null: no such step."
    )
    attribution: Attribution | None = Field(
        default=None, description="Maps of what in the frames drives dimensions; null: no such step."
    )
    brain: Brain | None = None
    schedules: Annotated[dict[str, Schedule], EACH_NAMED, NULL_AS_EMPTY] = Field(
        default_factory=dict,
        description="Recurring collections, by name.",
        json_schema_extra=_schedule_names_or_null,
    )
    notify: Notify | None = Field(default=None, description="Who is notified of runs of schedules.")

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _text: bytes = PrivateAttr(default=b"")
    _protocol_files: Mapping[Path, bytes] = PrivateAttr(default_factory=dict)

    @property
    def raw(self) -> Mapping[str, Any]:
        """The parsed content of the file, for records and for :meth:`at`."""
        return self._raw

    @property
    def text(self) -> bytes:
        """The content of the lake's file; empty if the parameters were not read from a lake."""
        return self._text

    @property
    def protocol_files(self) -> Mapping[Path, bytes]:
        """The contents of the lake's protocol files that agents name, by path within the lake."""
        return self._protocol_files

    @property
    def fit_seeds(self) -> tuple[int, ...]:
        """The seeds of the fits."""
        return self.spose.seeds

    @property
    def device(self) -> str:
        """The device of fits and vision models."""
        return self.spose.device

    @property
    def auto(self) -> frozenset[str]:
        """The agents with ``l1: auto``, which are fitted with the settings for few judgments."""
        return frozenset(name for name, agent in self.agents.items() if agent.l1 == "auto")

    def fitted(self, stored: Stored) -> list[str]:
        """Return the agents that have an embedding, in the order of the file.

        Parameters
        ----------
        stored : Stored
            The agents with stored answers; an agent whose answers are collected has an embedding if it has enough.
        """
        return [name for name, agent in self.agents.items() if not agent.is_collected or name in stored.fittable]

    def settings(self, agent: str) -> Settings:
        """Return the settings of an agent's fits; for ``l1: auto``, without those that :meth:`candidates` adds."""
        shared = {key: getattr(self.spose, key) for key in SharedSettings.model_fields}
        entry = self.agents[agent]
        if isinstance(entry, AnchoredAgent):
            shared["init_std"] = entry.init_std
        l1 = entry.l1
        return Settings(l1=0.0 if l1 == "auto" else l1, **shared)

    def candidates(self, agent: str, n_judgments: int, n_stimuli: int) -> list[Settings]:
        """Return the candidate settings of an agent's fits to `n_judgments`: one, unless its l1 is ``auto``."""
        base = self.settings(agent)
        return self.spose.few.candidates(base, n_judgments, n_stimuli) if agent in self.auto else [base]

    def at(self, key: str) -> Any:
        """Return the value at a dotted `key` of the file; None if it has none."""
        return value_at(self.raw, key)


def load(lake: Path) -> Params:
    """Read and check the lake's ``params.yaml``, and the protocol files that its agents name."""
    path = lake / layout.PARAMS
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", found=str(error), todo="save it as UTF-8") from error
    try:
        found = parse(text, str(path), lake)
    except UsageError as error:
        refuse_unjoined(lake)  # conflicts left by Git have another remedy
        restored = "correct it; `affectlake restore` restores that of the latest version and keeps a copy of this one"
        error.todo = error.todo or restored
        raise
    found._text = content
    return found


def parse(text: str, name: str = "params.yaml", lake: Path | None = None) -> Params:
    """Check the text of a ``params.yaml``.

    Parameters
    ----------
    text : str
        The YAML.
    name : str
        Name of the file in messages.
    lake : Path, optional
        Root of the lake whose protocol files agents may name; by default, only built-in protocols are known.

    Returns
    -------
    Params
        The parameters.

    Raises
    ------
    UsageError
        If the text is not YAML, a name is invalid, a key is missing, unknown or of the wrong type, a value is out of
        range, or a setting has no effect. One message contains all mistakes.
    """
    raw = read_yaml(text, name)
    names = protocols.own_names(lake) if lake else []
    files = protocols.own_protocols(lake, names, raw) if lake else {}
    params, mistakes = examined(raw, {own: file.protocol for own, file in files.items()}, names)
    if params is None:
        raise refusal(name, mistakes)
    params._raw = raw
    params._protocol_files = {protocols.path_of(own): file.content for own, file in files.items()}
    return params


def examined(
    raw: object, known: OwnProtocols | None = None, names: Sequence[str] = ()
) -> tuple[Params | None, list[Mistake]]:
    """Return the parameters from the parsed content of a ``params.yaml``; None, with all mistakes, if it is invalid.

    `known` are the protocols of the lake, by name, besides the built-in ones; `names` those of all its protocol files.
    """
    own = [*wrong_names(raw), *without_effect(raw), *wrong_agents(raw), *wrong_families(raw)]
    found, others = examine(Params, raw, context={OWN_PROTOCOLS: known, OWN_NAMES: names})
    paths = {one.path for one in own}
    mistakes = [*own, *(one for one in others if one.path not in paths)]
    return None if mistakes else found, mistakes
