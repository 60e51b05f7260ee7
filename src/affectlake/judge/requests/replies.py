"""Reading of chat completions: the model's answer, kept apart from its reasoning and from a refusal.

Servers differ in where they put these and in how they send numbers. Invalid values are not interpreted; they are
reported in :attr:`Reply.oddities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affectlake.judge.requests.answers import Failure, FailureKind, Reply
from affectlake.judge.requests.payloads import dump, load, storable, token_count
from affectlake.judge.requests.refusals import error_in

BROKEN_OFF: dict[str, FailureKind] = {
    **dict.fromkeys(("abort", "aborted", "cancelled", "canceled", "error", "failed"), "server_error"),
    **dict.fromkeys(("server_error", "internal_error", "network_error", "model_error"), "server_error"),
    "timeout": "timed_out",
    "insufficient_system_resource": "overloaded",
}
"""Kind of failure by ``finish_reason``, for answers that the server abandoned. Such an answer is asked for again."""

_TEXTS = ("text", "output_text")
_THOUGHTS = ("thinking", "reasoning", "reasoning_content", "reasoning_text", "summary_text")
_PLACES = ("text", "value", "content", *_THOUGHTS)
_THOUGHTS_OF_MESSAGE = ("reasoning_content", "reasoning", "thinking")


def read_reply(payload: bytes) -> Reply:
    """Return the reply in a chat completion.

    Parameters
    ----------
    payload : bytes
        Body of the server's response.

    Raises
    ------
    Failure
        If the body is not complete JSON (``truncated``), is not a chat completion (``malformed``), contains an error
        (the error's kind), or the server abandoned the answer (the kind in `BROKEN_OFF`).
    """
    try:
        found, oddities = load(payload)
    except ValueError as error:
        raise Failure("truncated", f"{error}; {len(payload)} bytes were received") from error
    refused = error_in(found)
    if refused is not None:
        raise refused
    odd = list(oddities)
    try:
        choice = found["choices"][0]
        refused = error_in({"error": choice.get("error")})
        message = _Message(choice["message"], odd)
        finish_reason = _text(choice.get("finish_reason"), "finish_reason", odd)
        logprobs, model = choice.get("logprobs"), _text(found.get("model"), "model", odd)
    except (LookupError, TypeError, AttributeError) as error:
        words = payload[:300].decode(errors="replace")
        raise Failure("malformed", f"not a chat completion ({type(error).__name__}): {words}") from error
    kind = BROKEN_OFF.get(finish_reason.strip().lower())
    if refused is not None or kind is not None:
        raise refused or Failure(
            kind or "server_error", f"the server stopped after {len(message.text)} characters: {finish_reason}"
        )
    prompt_tokens, completion_tokens, cached_tokens = _tokens(found.get("usage"), odd)
    return Reply(
        text=_kept(message.text, odd),
        finish_reason=finish_reason,
        logprobs=dump(logprobs) if logprobs else None,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
        model=model,
        thinking=_kept("\n".join(dict.fromkeys(message.thoughts)), odd) or None,
        refusal=_kept("\n".join(dict.fromkeys(message.refusals)), odd) or None,
        oddities="; ".join(dict.fromkeys(odd)) or None,
    )


class _Message:
    """The parts of a message: its text, its reasoning, and its refusal."""

    def __init__(self, message: Mapping[str, Any], odd: list[str]) -> None:
        self.thoughts, self.refusals, self._odd = list[str](), list[str](), odd
        for name in _THOUGHTS_OF_MESSAGE:
            self.thoughts += filter(None, [_plain(message.get(name))])
        self.refusals += filter(None, [_plain(message.get("refusal"))])
        content = message.get("content")
        parts = content if isinstance(content, list) else [] if content is None else [content]
        self.text = "".join(map(self._part, parts))

    def _part(self, part: object) -> str:
        """Return the text of one part of the content. Store reasoning and refusals in their attributes."""
        if isinstance(part, str):
            return part
        if not isinstance(part, Mapping):
            self._odd.append(f"the content contains {_name(part)}, read as text")
            return dump(part)
        kind = str(part.get("type", "text"))
        if kind in _TEXTS:
            return _plain(part.get("text"))
        if kind in _THOUGHTS:
            self.thoughts += filter(None, [_plain(part)])
        elif kind == "refusal":
            self.refusals += filter(None, [_plain(part.get("refusal"))])
        else:
            self._odd.append(f"a part of type {storable(kind)[:40]!r} is left out of the answer")
        return ""


def _plain(value: object) -> str:
    """Return the text in a string, a list of texts, or an object that has it at one of the usual keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_plain, value))
    places = [value.get(key) for key in _PLACES] if isinstance(value, Mapping) else []
    return next((words for words in map(_plain, places) if words), "")


def _tokens(usage: object, odd: list[str]) -> tuple[int, int, int]:
    """Return the numbers of prompt tokens, completion tokens, and cached prompt tokens."""
    counts: Mapping[str, Any] = usage if isinstance(usage, Mapping) else {}
    details = counts.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    for name, value in (("usage", usage), ("prompt_tokens_details", details)):
        if value is not None and not isinstance(value, Mapping):
            odd.append(f"{name} was {_name(value)}, read as nothing")
    found = [
        token_count(name, value)
        for name, value in (
            ("prompt_tokens", counts.get("prompt_tokens")),
            ("completion_tokens", counts.get("completion_tokens")),
            ("cached_tokens", cached),
        )
    ]
    odd += [oddity for _, oddity in found if oddity]
    return found[0][0], found[1][0], found[2][0]


def _text(value: object, name: str, odd: list[str]) -> str:
    """Return a short text that the server sent, or an empty string if it is missing or not a text."""
    if value is None or isinstance(value, str):
        return _kept(value or "", odd)
    odd.append(f"{name} was {_name(value)}, read as nothing")
    return ""


def _kept(text: str, odd: list[str]) -> str:
    clean = storable(text)
    if clean != text:
        odd.append("lone surrogates are replaced by U+FFFD")
    return clean


def _name(value: object) -> str:
    """Return the name of a JSON value's type."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")
