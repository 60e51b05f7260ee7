"""Limitation of answers to the labels of a one-token protocol: which way a server obeys is found by asking it.

Servers are asked for it in different ways, and most of them ignore a field that they do not know. Before the first
question, a server is therefore asked one that no label answers. A way is used if the answer is a label nevertheless.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from affectlake.errors import CollectionError
from affectlake.judge.protocols.label_probabilities import label_mass
from affectlake.judge.protocols.labels import JSON_FIELD, Way, label_in
from affectlake.judge.protocols.readings import Labels
from affectlake.judge.requests.answers import Constraint, Failure, FailureKind
from affectlake.judge.requests.client import Client, shown
from affectlake.judge.requests.refusals import advice

FIRST_WAY = "structured_outputs"
"""The way that the bodies of questions contain: that of vLLM."""

PROBE = "What is the capital of France? Answer in one word."
"""The question that no label answers."""

MASKED_FROM = 0.5
"""Probability of the labels as an answer to `PROBE`, from which other tokens were excluded before it was computed."""

TOP_LOGPROBS_OF_LLAMA = 50
"""Number of log-probabilities that llama.cpp is asked for. It lists tokens that its grammar excludes, so that a label
is often not among the 20 most likely ones."""

_TOKENS_OF_JSON = 40  # of blanks, quotation marks and an object around a label; llama.cpp may add a code fence
_OWN = ("grammar", "regex", "ebnf", "response_format", "guided_choice", "guided_regex", "guided_grammar")
_LIMITS = ("max_tokens", "max_completion_tokens")
_SHOWN = 40


def _grammar(labels: Labels) -> dict[str, Any]:
    root = " | ".join(json.dumps(label, ensure_ascii=False) for label in labels)
    return {"grammar": f"root ::= {root}", "top_logprobs": TOP_LOGPROBS_OF_LLAMA}


def _pattern(labels: Labels) -> str:
    return f"({'|'.join(map(re.escape, labels))})"


def _label_schema(labels: Labels) -> dict[str, Any]:
    if all(label.isascii() and label.isdigit() and str(int(label)) == label for label in labels):
        return {"type": "integer", "enum": [int(label) for label in labels]}
    return {"type": "string", "enum": list(labels)}


def _object_schema(labels: Labels) -> dict[str, Any]:
    field = {JSON_FIELD: _label_schema(labels)}
    return {"type": "object", "properties": field, "required": [JSON_FIELD], "additionalProperties": False}


def _json_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": schema}}
    }


WAYS: Mapping[str, Callable[[Labels], dict[str, Any]]] = {
    FIRST_WAY: lambda labels: {"structured_outputs": {"choice": list(labels)}},
    "grammar": _grammar,
    "regex": lambda labels: {"regex": _pattern(labels)},
    "guided_choice": lambda labels: {"guided_choice": list(labels)},
    "json_schema": lambda labels: _json_format(_label_schema(labels)),
    "regex_format": lambda labels: {"response_format": {"type": "regex", "value": _pattern(labels)}},
    "json_object": lambda labels: _json_format(_object_schema(labels)),
}
"""Fields of a request that limit its answer to labels, by way: those of vLLM, llama.cpp, SGLang, vLLM before 0.12,
Ollama and LM Studio (a JSON value), text-generation-inference, and of hosted APIs (a JSON object). They are tried in
this order."""


FREE = Constraint("", None)
"""Answers are not limited."""


def limited(body: Mapping[str, Any], constraint: Constraint | None) -> Mapping[str, Any]:
    """Return a request whose answer is limited as `constraint` says; the request itself if it is None.

    Parameters
    ----------
    body : mapping
        A request with the field `FIRST_WAY`; a request without it is returned as it is.
    constraint : Constraint or None
        The constraint.
    """
    way = FIRST_WAY if constraint is None else constraint.way
    if way == FIRST_WAY or FIRST_WAY not in body:
        return body
    rest = {name: value for name, value in body.items() if name != FIRST_WAY}
    if way not in WAYS:
        return rest
    longer = {name: rest[name] + _TOKENS_OF_JSON for name in _LIMITS if way.startswith("json") and rest.get(name)}
    return rest | longer | WAYS[way](labels_of(body))


def labels_of(body: Mapping[str, Any]) -> Labels:
    """Return the labels to which the answer to a request of a one-token protocol is limited."""
    first, second, third = body[FIRST_WAY]["choice"]
    return first, second, third


async def find_constraint(client: Client, url: str, probe: Mapping[str, Any], wanted: Way = "auto") -> Constraint:
    """Return the first way in which a server limits its answers to labels.

    Parameters
    ----------
    client : Client
        The client.
    url : str
        The server's base URL.
    probe : mapping
        A request of a one-token protocol that asks `PROBE`. If it has fields of its own that limit the answer, only
        these are tried.
    wanted : str
        The only way to try; ``auto``: all.

    Raises
    ------
    CollectionError
        If the server obeys in no way, or reports that it does not return log-probabilities.
    Failure
        If the server does not answer.
    """
    if wanted == "none":
        return FREE
    ways = ["extra"] if any(name in probe for name in _OWN) else list(WAYS) if wanted == "auto" else [wanted]
    labels, found, broken = labels_of(probe), dict[str, str](), list[Failure]()
    for way in ways:
        body = limited(probe, Constraint(way, None))
        try:
            reply = await client.ask(url, body)
        except Failure as failure:
            if failure.kind not in _MAY_REFUSE_A_WAY:
                raise
            if hint := advice(failure.message, {"logprobs": True}):
                raise CollectionError(
                    f"the server at {shown(url)} cannot be asked by a one-token protocol",
                    found=failure.message,
                    todo=hint,
                ) from failure
            found[way] = f"refused: {failure.message}"
            broken += [failure] if failure.kind == "server_error" else []
            continue
        if label_in(reply.text, labels) is not None:
            mass = label_mass(reply.logprobs, labels)
            return Constraint(way, None if mass is None else mass >= MASKED_FROM)
        found[way] = f"answered {' '.join(reply.text.split())[:_SHOWN]!r}"
    if len(broken) == len(ways):
        raise broken[-1]
    raise CollectionError(
        f"the server at {shown(url)} does not limit its answers to the labels {', '.join(labels)}",
        wanted=f"one of these labels as the answer to {PROBE!r}, which is asked to test it",
        found="; ".join(f"{way}: {what}" for way, what in found.items()),
        todo="serve the model with vLLM, llama.cpp, SGLang or Ollama; or use a protocol with free answers, such as "
        "describe-then-choose; or set constraint: none in the agent's entry, and other answers do not count",
    )


_MAY_REFUSE_A_WAY: frozenset[FailureKind] = frozenset({"rejected", "server_error", "malformed"})
"""Failures that a server may answer a field with that it does not support."""
