"""Who answers triplets without a server: the entries of ``agents`` in ``params.yaml``, read strictly.

What the agents compute does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from affectlake.errors import UsageError, nearest

Ratings = Literal["category", "dimension", "concatenated"]


@dataclass(frozen=True)
class RatingsAgent:
    """Simulates a person's choices from rating vectors, by cosine similarity.

    Parameters
    ----------
    name : str
        Key of the agent.
    ratings : {'category', 'dimension', 'concatenated'}
        Which ratings make the vectors.
    """

    kind: ClassVar[str] = "ratings"
    protocol: ClassVar[str] = "cosine-similarity/1"

    name: str
    ratings: Ratings


@dataclass(frozen=True)
class TfidfSvd:
    """Term frequencies of the captions, reduced by truncated SVD: needs no weights.

    Parameters
    ----------
    n_components : int
        Length of the vectors.
    """

    name: ClassVar[str] = "tfidf-svd"

    n_components: int


@dataclass(frozen=True)
class SentenceTransformers:
    """A sentence encoder of the sentence-transformers library.

    Parameters
    ----------
    model : str
        Name of the model, or the folder that holds it.
    """

    name: ClassVar[str] = "sentence-transformers"

    model: str


Encoder: TypeAlias = TfidfSvd | SentenceTransformers


@dataclass(frozen=True)
class FeaturesAgent:
    """A non-generative model: the stimulus farthest on average, by cosine distance, is odd.

    Parameters
    ----------
    name : str
        Key of the agent.
    encoder : TfidfSvd or SentenceTransformers
        What turns a stimulus's captions into a vector.
    """

    kind: ClassVar[str] = "features"
    protocol: ClassVar[str] = "cosine-distance/1"

    name: str
    encoder: Encoder


Agent: TypeAlias = RatingsAgent | FeaturesAgent


def parse_agent(name: str, entry: Mapping[str, Any]) -> Agent:
    """Return the agent that an entry of ``agents`` describes.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        ``{kind: ratings, ratings: category}``, ``{kind: features, encoder: {name: tfidf-svd, n_components: 300}}`` or
        ``{kind: features, encoder: {name: sentence-transformers, model: NAME_OR_FOLDER}}``.

    Raises
    ------
    UsageError
        A kind, key or value that does not exist, is missing, or is of the wrong type.
    """
    where = f"agents.{name}"
    kind = _choice(where, entry, "kind", ("ratings", "features"))
    if kind == "ratings":
        _only(where, entry, ("kind", "ratings"))
        ratings: Ratings = _choice(where, entry, "ratings", get_args(Ratings))
        return RatingsAgent(name, ratings)
    _only(where, entry, ("kind", "encoder"))
    return FeaturesAgent(name, _encoder(f"{where}.encoder", entry["encoder"]))


def _encoder(where: str, entry: object) -> Encoder:
    if not isinstance(entry, Mapping):
        raise UsageError(
            f"{where} is no mapping.",
            wanted="such as {name: tfidf-svd, n_components: 300}",
            found=repr(entry),
        )
    if _choice(where, entry, "name", (TfidfSvd.name, SentenceTransformers.name)) == TfidfSvd.name:
        _only(where, entry, ("name", "n_components"))
        n_components = entry["n_components"]
        if type(n_components) is not int or n_components < 1:
            raise UsageError(
                f"{where}.n_components is no number of components.",
                found=repr(n_components),
                allowed="a whole number, 1 or more",
            )
        return TfidfSvd(n_components)
    _only(where, entry, ("name", "model"))
    model = entry["model"]
    if not isinstance(model, str) or not model.strip():
        raise UsageError(
            f"{where}.model names no model.", found=repr(model), wanted="the name of a model, or the folder it is in"
        )
    return SentenceTransformers(model)


def _choice(where: str, entry: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> Any:
    """Return the value at `key`, one of `allowed`."""
    if key not in entry:
        raise UsageError(
            f"{where} has no {key}.", wanted=f"{key}: {allowed[0]}", allowed=", ".join(allowed), found=str(dict(entry))
        )
    value = entry[key]
    if value not in allowed:
        raise UsageError(
            f"{where}.{key} has no value {value!r}.", allowed=", ".join(allowed), todo=nearest(str(value), allowed)
        )
    return value


def _only(where: str, entry: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Refuse keys other than `keys`, and missing ones."""
    unknown = [str(key) for key in entry if key not in keys]
    if unknown:
        raise UsageError(
            f"{where} has an unknown key {unknown[0]!r}.",
            allowed=", ".join(keys),
            todo=nearest(unknown[0], keys) or "remove it",
        )
    missing = [key for key in keys if key not in entry]
    if missing:
        raise UsageError(f"{where} has no {missing[0]}.", wanted=", ".join(keys), found=", ".join(map(str, entry)))
