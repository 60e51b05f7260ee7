"""The words of a study on the page: its question and the names of its ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Wording:
    """Words that depend on what the study is about.

    Parameters
    ----------
    title : str
        Heading of the page.
    question : str
        The question that agents answer about three stimuli.
    ratings : str
        What the dimensions are compared with.
    families : mapping of str to str
        Names of families of ratings in the plural; a family without an entry has its own name.
    """

    title: str = "How do the stimuli differ?"
    question: str = "Which of three stimuli is the odd one out?"
    ratings: str = "ratings of the stimuli"
    families: Mapping[str, str] = field(default_factory=dict)


EMOTION = Wording(
    title="How do emotions differ?",
    question="Which of three stimuli feels different from the other two?",
    ratings="human ratings of emotion",
    families={"category": "emotion categories", "dimension": "affective dimensions"},
)
"""The words of the emotional videos and of the synthetic study."""


def wording_of(params: Mapping[str, Any]) -> Wording:
    """Return the words of a study: those of its kind of sources, with those that its ``wording`` section names.

    Parameters
    ----------
    params : mapping
        Parsed content of a ``params.yaml``; what is missing or malformed is ignored.
    """
    words = EMOTION if _at(params, "sources.kind") in ("emotion", "synthetic", None) else Wording()
    named = {
        key.rpartition(".")[2]: _at(params, key) for key in ("wording.title", "wording.question", "wording.ratings")
    }
    families = _at(params, "wording.families")
    plurals = {str(key): str(value) for key, value in families.items()} if isinstance(families, Mapping) else {}
    texts = {key: value for key, value in named.items() if isinstance(value, str)}
    return replace(words, **texts, families={**words.families, **plurals})


def _at(params: Mapping[str, Any], key: str) -> Any:
    section, _, word = key.partition(".")
    found = params.get(section)
    return found.get(word) if isinstance(found, Mapping) else None
