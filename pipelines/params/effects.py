"""Settings without effect: each is refused, with a message that names the effective setting.

A setting has no effect if it is never read, or if another setting in the file overrides it. Settings of a part that is
switched off (an empty list of sweeps, 0 permutations), or that only agents of other kinds use (``spose.few``,
``proposals``), are accepted, so that the part can be switched on again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from affectlake.mistakes import Mistake
from affectlake.pipelines.params.text import value_at
from affectlake.spose.settings import FewJudgments, SharedSettings


def without_effect(raw: object) -> Iterator[Mistake]:
    """Yield the settings of a ``params.yaml`` that have no effect.

    Parameters
    ----------
    raw : object
        Parsed content of the file; unexpected values are ignored.
    """
    yield from _of_fits(raw)
    yield from _of_initial_weights(raw)
    if value_at(raw, "sweeps.cycle_epochs") is not None and value_at(raw, "sweeps.batch_size") is not None:
        why = "with sweeps.cycle_epochs, the size of batches follows the number of judgments"
        yield _useless("sweeps.batch_size", why, "remove it, or remove sweeps.cycle_epochs")
    yield from _of_participants(raw)
    yield from _of_triplets(raw)
    if value_at(raw, "notify") is not None and not value_at(raw, "schedules"):
        why = "it reports runs of schedules, and the file has no schedules"
        yield _useless("notify", why, "remove it, or add `schedules:`")
    searchlight = "brain.searchlight"
    if (value_at(raw, f"{searchlight}.selection"), value_at(raw, f"{searchlight}.permutations")) == ("ratings", 0):
        yield Mistake(
            "brain.searchlight.permutations",
            "0 is too few for selection: ratings, whose bias is the mean over permutations",
            todo="set at least 20 permutations, or another selection",
        )
    yield from _of_draws(raw)
    yield from _of_experiments(raw)
    known = _subjects(raw)
    surfaces, reference, agents = (value_at(raw, key) for key in ("brain.surfaces", "brain.reference", "agents"))
    if isinstance(agents, Mapping) and isinstance(reference, str) and reference not in ("", *agents):
        why = "is not an agent of this study"
        yield Mistake("brain.reference", why, todo=f"the agents are {', '.join(map(str, agents))}")
    yield from _of_bands(raw)
    if known and isinstance(surfaces, Mapping):
        for subject in surfaces:
            if subject not in known:
                why = "brain.sources has no such subject"
                yield _useless(f"brain.surfaces.{subject}", why, f"remove it; the subjects are {', '.join(known)}")


def _of_bands(raw: object) -> Iterator[Mistake]:
    bands, agents = value_at(raw, "brain.partition.bands"), value_at(raw, "agents")
    if value_at(raw, "brain.contributions") is not None and value_at(raw, "brain.partition") is None:
        yield Mistake(
            "brain.contributions",
            "needs the bands of brain.partition",
            todo="add brain.partition with bands, or remove brain.contributions",
        )
    if isinstance(bands, Mapping) and "all" in bands:
        yield Mistake(
            "brain.partition.bands", "all is the name of what all bands explain", todo="give the band another name"
        )
    for band, names in bands.items() if isinstance(bands, Mapping) and isinstance(agents, Mapping) else ():
        for other in names if isinstance(names, list) else ():
            if isinstance(other, str) and other not in agents:
                yield Mistake(
                    f"brain.partition.bands.{band}",
                    "is not an agent of this study",
                    found=other,
                    todo=f"the agents are {', '.join(map(str, agents))}",
                )


def _of_draws(raw: object) -> Iterator[Mistake]:
    agents = value_at(raw, "agents")
    for name, entry in agents.items() if isinstance(agents, Mapping) else ():
        other = value_at(entry, "draws_of")
        if isinstance(other, str) and (other not in agents or other == name):
            why = "is the agent itself" if other == name else "is not an agent of this study"
            yield Mistake(
                f"agents.{name}.draws_of", why, found=other, todo=f"the agents are {', '.join(map(str, agents))}"
            )


def _of_experiments(raw: object) -> Iterator[Mistake]:
    agents = value_at(raw, "agents")
    for name, entry in agents.items() if isinstance(agents, Mapping) else ():
        if value_at(entry, "kind") != "experiment":
            continue
        asks_easy = value_at(entry, "practice") != 0 or value_at(entry, "catch_every") is not None
        asks_easy |= "catch_every" not in entry
        if asks_easy and value_at(entry, "catch") in (None, "ratings") and value_at(raw, "easy_trials") is None:
            yield Mistake(
                f"agents.{name}.catch",
                "needs the section easy_trials, from which practice and catch trials are taken",
                todo="add `easy_trials: {ratings: FAMILY}`, name trials under catch, or set practice: 0 and "
                "catch_every: null",
            )
        given, key = {"main": "triplets.n", "noise_ceiling": "triplets.noise_ceiling"}, value_at(entry, "trials")
        empty = given.get(key or "main") if isinstance(key, str | None) else None
        if empty is not None and value_at(raw, empty) == 0:
            yield Mistake(f"agents.{name}.trials", f"has no trials to give: {empty} is 0", todo=f"raise {empty}")


def _of_fits(raw: object) -> Iterator[Mistake]:
    fits, agents = value_at(raw, "spose"), value_at(raw, "agents")
    if not isinstance(fits, Mapping):
        return
    strengths = {name: value_at(entry, "l1") for name, entry in agents.items()} if isinstance(agents, Mapping) else {}
    if "l1" in fits:
        own = f"agents.{next(iter(strengths), 'NAME')}.l1"
        yield _useless("spose.l1", "every agent has its own l1", f"remove it; settings such as {own} set the sparsity")
    if "threshold" in fits and fits.get("pruning") == "none":
        yield _useless(
            "spose.threshold", "spose.pruning: none keeps all dimensions", "remove it, or change spose.pruning"
        )
    if fits.get("schedule", "constant") == "constant" and "final_learning_rate" in fits:
        why = "spose.schedule: constant has one learning rate"
        yield _useless("spose.final_learning_rate", why, "remove it, or set spose.schedule: cosine")
    if "patience" in fits and fits["patience"] is None and "min_delta" in fits:
        why = "spose.patience: null does not stop by the validation loss"
        yield _useless("spose.min_delta", why, "remove it, or set spose.patience")
    if strengths and all(l1 == "auto" for l1 in strengths.values()):
        why = "every agent has l1: auto, and is fitted with the settings of spose.few"
        instead_of = {"batch_size": "follows the number of judgments"}
        if value_at(raw, "spose.few.init_stds") is not None:
            instead_of["init_std"] = "is one of spose.few.init_stds"
        if value_at(raw, "spose.few.cycle_epochs") is None:
            instead_of |= {"schedule": "is constant", "final_learning_rate": "is spose.few.learning_rate",
                           "warmup_epochs": "is 0"}  # fmt: skip
        else:
            instead_of |= {"schedule": "is cosine", "final_learning_rate": "is a hundredth of spose.few.learning_rate",
                           "warmup_epochs": "follows spose.few.cycle_epochs",
                           "convergence_epochs": "is spose.few.cycle_epochs"}  # fmt: skip
        for key in (*instead_of, *(key for key in SharedSettings.model_fields if key in FewJudgments.model_fields)):
            if key in fits:
                instead = instead_of.get(key, f"is spose.few.{key}")
                yield _useless(f"spose.{key}", why, f"remove it; the effective setting {instead}")


def _of_initial_weights(raw: object) -> Iterator[Mistake]:
    agents = value_at(raw, "agents")
    if value_at(raw, "spose.few.init_stds") is None or not isinstance(agents, Mapping):
        return
    for name, entry in agents.items():
        if value_at(entry, "l1") == "auto" and value_at(entry, "init_std") is not None:
            why = "with l1: auto, the initial weights have one of spose.few.init_stds"
            yield _useless(f"agents.{name}.init_std", why, "remove it, or remove spose.few.init_stds")


def _of_triplets(raw: object) -> Iterator[Mistake]:
    if not isinstance(value_at(raw, "triplets"), Mapping):
        return
    per_dyad, n = value_at(raw, "triplets.per_dyad"), value_at(raw, "triplets.n")
    if per_dyad is None and n is None:
        yield Mistake(
            "triplets.per_dyad",
            "is missing, and so is triplets.n",
            wanted="one of them: thirds for each pair of stimuli, or the number of triplets",
            todo="set triplets.per_dyad, such as 3, or triplets.n",
        )
    elif per_dyad is not None and n is not None:
        yield _useless("triplets.per_dyad", "triplets.n is the number of triplets", "remove one of them")
    ceiling = value_at(raw, "triplets.noise_ceiling")
    if n == 0 and isinstance(ceiling, int) and ceiling > 0:
        why = "triplets.n: 0 leaves no triplets to repeat"
        yield Mistake("triplets.noise_ceiling", f"is {ceiling}, but {why}", todo="set triplets.noise_ceiling: 0")


def _of_participants(raw: object) -> Iterator[Mistake]:
    known = _subjects(raw)
    for key in ("brain.sources.masks", "brain.sources.atlases"):
        named = value_at(raw, key)
        for subject in named if known and isinstance(named, Mapping) else ():
            if subject not in known:
                why = "brain.sources has no such participant"
                yield _useless(f"{key}.{subject}", why, f"remove it; the participants are {', '.join(known)}")


def _subjects(raw: object) -> list[str]:
    """Return the subjects in the file; empty if it does not list them."""
    found = value_at(raw, "brain.sources.subjects") or value_at(raw, "brain.sources.participants")
    return [str(name) for name in found] if isinstance(found, Mapping | list) else []


def _useless(path: str, why: str, todo: str) -> Mistake:
    return Mistake(path, f"has no effect: {why}", todo=todo)
