"""Answers that are one of a protocol's labels: how servers are asked for them, and how they are recognised."""

from __future__ import annotations

import json
from typing import Any, Literal

from affectlake.judge.protocols.readings import Labels

Way = Literal[
    "auto", "structured_outputs", "grammar", "regex", "guided_choice", "json_schema", "regex_format", "json_object",
    "none",
]  # fmt: skip
"""How a server is asked to answer with a label: one field of a request, the first that it obeys, or not at all."""

JSON_FIELD = "choice"
"""Field of the JSON object that holds the label, for servers that limit answers to JSON objects."""


def label_in(answer: str, labels: Labels) -> str | None:
    """Return the label that an answer consists of, or None if it is anything else.

    Quotation marks and full stops around the label are ignored. If the answer is a JSON object, its field
    `JSON_FIELD` is read in place of it.

    Parameters
    ----------
    answer : str
        The answer.
    labels : tuple of str
        The three labels.
    """
    return next((word for word in (answer.strip(), bare(answer)) if word in labels), None)


def bare(answer: str) -> str:
    """Return an answer without JSON, and without blanks, quotation marks and full stops around it."""
    word = answer.strip()
    if word.startswith("{"):
        found = _field(word)
        word = word if found is None else found
    return word.strip(' ."\t\r\n')


def _field(text: str) -> str | None:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = found.get(JSON_FIELD) if isinstance(found, dict) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
