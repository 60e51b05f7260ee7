"""Who answers triplets: the entries of ``agents`` in ``params.yaml``, read strictly.

What the agents compute does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from affectlake.errors import UsageError
from affectlake.judge import entries
from affectlake.judge.chat import ChatAgent, parse_chat_agent

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


Agent: TypeAlias = RatingsAgent | FeaturesAgent | ChatAgent


def parse_agent(name: str, entry: Mapping[str, Any]) -> Agent:
    """Return the agent that an entry of ``agents`` describes.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        ``{kind: ratings, ratings: category}``, ``{kind: features, encoder: {name: tfidf-svd, n_components: 300}}``,
        ``{kind: features, encoder: {name: sentence-transformers, model: NAME_OR_FOLDER}}`` or ``{kind: chat, …}``
        (:func:`affectlake.judge.chat.parse_chat_agent`).

    Raises
    ------
    UsageError
        A kind, key or value that does not exist, is missing, or is of the wrong type.
    """
    where = f"agents.{name}"
    kind = entries.choice(where, entry, "kind", ("ratings", "features", "chat"))
    if kind == "chat":
        return parse_chat_agent(name, entry)
    if kind == "ratings":
        entries.only(where, entry, ("kind", "ratings"))
        ratings: Ratings = entries.choice(where, entry, "ratings", get_args(Ratings))
        return RatingsAgent(name, ratings)
    entries.only(where, entry, ("kind", "encoder"))
    return FeaturesAgent(name, _encoder(f"{where}.encoder", entry["encoder"]))


def _encoder(where: str, entry: object) -> Encoder:
    if not isinstance(entry, Mapping):
        raise UsageError(
            f"{where} is no mapping.",
            wanted="such as {name: tfidf-svd, n_components: 300}",
            found=repr(entry),
        )
    if entries.choice(where, entry, "name", (TfidfSvd.name, SentenceTransformers.name)) == TfidfSvd.name:
        entries.only(where, entry, ("name", "n_components"))
        n_components = entry["n_components"]
        if type(n_components) is not int or n_components < 1:
            raise UsageError(
                f"{where}.n_components is no number of components.",
                found=repr(n_components),
                allowed="a whole number, 1 or more",
            )
        return TfidfSvd(n_components)
    entries.only(where, entry, ("name", "model"))
    model = entry["model"]
    if not isinstance(model, str) or not model.strip():
        raise UsageError(
            f"{where}.model names no model.", found=repr(model), wanted="the name of a model, or the folder it is in"
        )
    return SentenceTransformers(model)
