"""``params.yaml``: every knob of a study, read strictly. An unknown key or a wrong type is one clear message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from affectlake.errors import UsageError, nearest
from affectlake.judge.agents import Agent, parse_agent
from affectlake.lake.files import layout
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.pipelines.params.brain import KEYS as BRAIN_KEYS
from affectlake.pipelines.params.brain import Brain
from affectlake.pipelines.params.names import check_names
from affectlake.pipelines.params.schedules import Notify, Schedule, parse_notify, parse_schedules
from affectlake.pipelines.stored import collected, fittable
from affectlake.spose.settings import FewJudgments, Settings

_KINDS = ("emotion", "synthetic", "bdata", "images", "fmriprep")  # pydantic names the chosen model in a path


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EmotionSources(_Section):
    """The published ratings, captions and videos: paths (relative ones start at the lake); duplicates to leave out."""

    kind: Literal["emotion"]
    ratings: str | None
    captions: str | None
    exclude: list[int]
    videos: str | None = None


class SyntheticSources(_Section):
    """The demo world: how many stimuli to make up, and whether to render a clip of each."""

    kind: Literal["synthetic"]
    n_stimuli: int = Field(ge=30)
    clips: bool = False


class Triplets(_Section):
    """How many trials of which set are drawn, and which share of the main set is held out."""

    per_dyad: int = Field(ge=1)
    test_fraction: float = Field(gt=0, lt=1)
    prototypes_per_category: int = Field(ge=1)
    thirds_per_pair: int = Field(ge=1)
    noise_ceiling: int = Field(ge=1)
    noise_ceiling_repeats: int = Field(ge=2)


class Geometry(_Section):
    """Settings of the analyses: classes, permutations and resamples, the map, the emotion graph and the labels."""

    min_category_size: int = Field(ge=2)
    permutations: int = Field(ge=1)
    resamples: int = Field(ge=2)
    perplexity: float = Field(gt=1)
    edge_threshold: float = Field(ge=0, lt=1)
    absolute_edges: bool
    label_gap: float = Field(gt=0, le=1)


class Sweeps(_Section):
    """Further fits: which numbers of dimensions and of judgments are tried, how often, and how they are fitted."""

    dimensions: list[Annotated[int, Field(ge=1)]]
    n_judgments: int = Field(ge=100)
    judgments: list[Annotated[int, Field(ge=100)]]
    replicates: int = Field(ge=1)
    recovered_r: float = Field(gt=0, lt=1)
    share: float = Field(gt=0, lt=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    max_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    min_delta: float = Field(ge=0)


class Few(_Section):
    """How agents whose l1 is ``auto`` are fitted, and what `affectlake propose` fits: to few judgments."""

    priors: list[Annotated[float, Field(gt=0)]] = Field(default=[*FewJudgments.priors], min_length=1)
    learning_rate: float = Field(default=FewJudgments.learning_rate, gt=0)
    max_epochs: int = Field(default=FewJudgments.max_epochs, ge=1)
    patience: int = Field(default=FewJudgments.patience, ge=1)
    min_delta: float = Field(default=FewJudgments.min_delta, ge=0)
    learn_lapses: bool = FewJudgments.learn_lapses


class Proposals(_Section):
    """How `affectlake propose` chooses what to ask next."""

    n_members: int = Field(default=4, ge=2)
    share: float = Field(default=0.06, gt=0, le=1)
    random_per_stimulus: int = Field(default=10, ge=1)
    held_out: int = Field(default=5000, ge=100)


class _File(_Section):
    study: str
    seed: int = Field(ge=0)
    sources: EmotionSources | SyntheticSources = Field(discriminator="kind")
    triplets: Triplets
    agents: dict[str, dict[str, Any]]
    spose: dict[str, Any]
    geometry: Geometry
    sweeps: Sweeps
    proposals: Proposals = Proposals()
    brain: Brain | None = None
    schedules: Any = None
    notify: Any = None


@dataclass(frozen=True)
class Params:
    """A study's parameters, checked.

    Parameters
    ----------
    raw : mapping
        The file as it was read, for records and for :meth:`at`.
    collected : frozenset of str
        Agents that have stored answers in the lake, whether the file still names them or not. The file does not say
        so; the lake does.
    fittable : frozenset of str
        Those of them with enough answers to the main set for an embedding.
    spose : mapping of str to Settings
        How each agent is fitted; of one whose l1 is ``auto`` all but what :meth:`candidates` adds.
    few : FewJudgments
        How embeddings are fitted to few judgments.
    auto : frozenset of str
        Agents whose l1 is ``auto``: fitted as to few judgments.
    schedules : mapping of str to Schedule
        Collections that recur, by name.
    notify : Notify
        Whom to tell of one that failed.
    text : bytes
        The file's content, from which all this was read.
    """

    study: str
    seed: int
    sources: EmotionSources | SyntheticSources
    triplets: Triplets
    agents: Mapping[str, Agent]
    spose: Mapping[str, Settings]
    fit_seeds: tuple[int, ...]
    device: str
    geometry: Geometry
    sweeps: Sweeps
    proposals: Proposals
    few: FewJudgments
    auto: frozenset[str]
    raw: Mapping[str, Any]
    brain: Brain | None = None
    collected: frozenset[str] = frozenset()
    fittable: frozenset[str] = frozenset()
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    notify: Notify = field(default_factory=Notify)
    text: bytes = b""

    @property
    def fitted(self) -> list[str]:
        """Agents that have an embedding, in the file's order: those that need no server, or have enough answers."""
        return [name for name, agent in self.agents.items() if agent.kind != "chat" or name in self.fittable]

    def candidates(self, agent: str, n_judgments: int, n_stimuli: int) -> list[Settings]:
        """Return how an agent's embedding may be fitted to so many judgments: in one way, unless its l1 is ``auto``."""
        base = self.spose[agent]
        return self.few.candidates(base, n_judgments, n_stimuli) if agent in self.auto else [base]

    def at(self, key: str) -> Any:
        """Return the value at a dotted `key`, or None where the file has none."""
        value: Any = self.raw
        for word in key.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
        return value


def load(lake: Path) -> Params:
    """Read and check the lake's ``params.yaml``."""
    path = lake / layout.PARAMS
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", found=str(error), todo="save it as UTF-8") from error
    try:
        checked = parse(text, str(path))
    except UsageError as error:
        refuse_unjoined(lake)  # conflicts that Git has left in it have a remedy of their own
        restored = "correct it; `affectlake restore` brings the latest version's back and keeps it aside"
        error.todo = error.todo or restored
        raise
    return replace(checked, collected=collected(lake), fittable=fittable(lake), text=content)


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
        If it is not YAML, a name cannot be used, a key is missing, unknown or of the wrong type, or a value is out of
        range.
    """
    raw = _read(text, name)
    check_names(name, raw)
    try:
        checked = TypeAdapter(_File).validate_python(raw)
    except ValidationError as error:
        raise _account(name, error) from error
    if not checked.agents:
        raise UsageError(f"{name} has no agents", wanted="one entry or more under `agents:`")
    shared = dict(checked.spose)
    seeds = _seeds(name, shared.pop("seeds", None))
    device = shared.pop("device", "cpu")
    few = _few(name, shared.pop("few", {}))
    if device not in ("cpu", "cuda"):
        raise UsageError(f"{name}: spose.device has no value {device!r}", allowed="cpu, cuda")
    agents: dict[str, Agent] = {}
    settings: dict[str, Settings] = {}
    for agent, entry in checked.agents.items():
        if "l1" not in entry:
            raise UsageError(
                f"{name}: agents.{agent} has no l1",
                wanted="λ of its SPoSE fit, such as l1: 0.004, or l1: auto",
                found=str(entry),
            )
        settings[agent] = Settings.from_params({**shared, "l1": 0.0 if entry["l1"] == "auto" else entry["l1"]})
        agents[agent] = parse_agent(agent, {key: value for key, value in entry.items() if key != "l1"})
    return Params(
        study=checked.study,
        seed=checked.seed,
        sources=checked.sources,
        triplets=checked.triplets,
        agents=agents,
        spose=settings,
        fit_seeds=seeds,
        device=device,
        geometry=checked.geometry,
        sweeps=checked.sweeps,
        raw=raw,
        proposals=checked.proposals,
        few=few,
        auto=frozenset(agent for agent, entry in checked.agents.items() if entry["l1"] == "auto"),
        brain=checked.brain,
        schedules=parse_schedules(name, checked.schedules, agents),
        notify=parse_notify(name, checked.notify),
    )


def override(text: str, assignments: tuple[str, ...]) -> str:
    """Return the text of a ``params.yaml`` with ``key.path=value`` assignments made, comments kept.

    Raises
    ------
    UsageError
        If an assignment has no ``=``, or names a key that the file does not have.
    """
    editor = text_editor()
    document = editor.load(text)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set wants KEY=VALUE, not {assignment!r}", todo="such as --set sources.ratings=PATH")
        *folders, last = key.strip().split(".")
        place = document
        for word in folders:
            place = place.get(word) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            keys = list(_dotted(document))
            raise UsageError(
                f"params.yaml has no key {key!r}", todo=nearest(key, keys) or "see params.yaml for its keys"
            )
        place[last] = _read(value, f"the value of --set {key.strip()}")
    out = StringIO()
    editor.dump(document, out)
    return out.getvalue()


def text_editor() -> Any:
    """Return what loads a ``params.yaml`` and writes it with its comments and quotes."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    return editor


def _read(text: str, name: str) -> Any:
    """Read YAML as DVC does, so that both find the same in it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        found = str(error).replace("\n", " ")
        quotes = "put quotes around texts with a colon inside brackets, such as addresses of servers"
        raise UsageError(
            f"{name} is not YAML", found=found, todo=quotes if "unexpected ':'" in found else ""
        ) from error


def _dotted(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += _dotted(value, f"{prefix}{key}.")
    return found


def _seeds(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(v) is int and v >= 0 for v in value):
        raise UsageError(f"{name}: spose.seeds is no list of seeds", wanted="such as [0, 1]", found=repr(value))
    return tuple(value)


def _few(name: str, section: object) -> FewJudgments:
    """Check the section ``spose.few``."""
    try:
        checked = Few.model_validate(section).model_dump()
        return FewJudgments(**checked | {"priors": tuple(checked["priors"])})
    except ValidationError as error:
        raise _account(name, error, ("spose", "few")) from error


def _account(name: str, error: ValidationError, within: tuple[str, ...] = ()) -> UsageError:
    """Turn pydantic's first complaint into one message in the project's own words."""
    first = error.errors()[0]
    words = [str(w) for w in (*within, *first["loc"]) if w not in _KINDS or first["type"] == "missing"]
    key = ".".join(words) or "the file"
    found = repr(first["input"]) if first["type"] != "missing" else "nothing"
    more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(words[:-1])
        return UsageError(
            f"{name} has an unknown key {key!r}{more}", allowed=", ".join(known), todo=nearest(words[-1], known)
        )
    return UsageError(f"{name}: {key}: {first['msg'].lower()}{more}", found=found)


def _known_keys(path: list[str]) -> list[str]:
    sections: Mapping[str, list[type[BaseModel]]] = {
        **BRAIN_KEYS,
        "": [_File],
        "sources": [EmotionSources, SyntheticSources],
        "triplets": [Triplets],
        "geometry": [Geometry],
        "sweeps": [Sweeps],
        "proposals": [Proposals],
        "spose.few": [Few],
    }
    return sorted({key for model in sections.get(".".join(path), []) for key in model.model_fields})
