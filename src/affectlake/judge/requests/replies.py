"""A chat completion, read: what the model says apart from what it thought and from what it declined.

Servers differ in where they put these, and in what they send for numbers; nothing odd is guessed at, and what was odd
is said. What an answer means is not decided here, nor what an error's status means.
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
"""``finish_reason`` of an answer that the server gave up: what came of it is not an answer, and it is asked again."""

_TEXTS = ("text", "output_text")
_THOUGHTS = ("thinking", "reasoning", "reasoning_content", "reasoning_text", "summary_text")
_PLACES = ("text", "value", "content", *_THOUGHTS)
_THOUGHTS_OF_MESSAGE = ("reasoning_content", "reasoning", "thinking")


def read_reply(payload: bytes) -> Reply:
    """Return what a chat completion says.

    Parameters
    ----------
    payload : bytes
        The body of the server's response.

    Raises
    ------
    Failure
        ``truncated`` if it is not whole JSON, ``malformed`` if it is not a chat completion, the kind of an error that
        it holds, and that of `BROKEN_OFF` if the server gave up the answer.
    """
    try:
        found, oddities = load(payload)
    except ValueError as error:
        raise Failure("truncated", f"{error}; {len(payload)} bytes came") from error
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
            kind or "server_error", f"the server gave up after {len(message.text)} letters: {finish_reason}"
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
    """The parts of a message: its text, its thoughts, and the words in which it declines."""

    def __init__(self, message: Mapping[str, Any], odd: list[str]) -> None:
        self.thoughts, self.refusals, self._odd = list[str](), list[str](), odd
        for name in _THOUGHTS_OF_MESSAGE:
            self.thoughts += filter(None, [_plain(message.get(name))])
        self.refusals += filter(None, [_plain(message.get("refusal"))])
        content = message.get("content")
        parts = content if isinstance(content, list) else [] if content is None else [content]
        self.text = "".join(map(self._part, parts))

    def _part(self, part: object) -> str:
        """Return the text of one part of the content; what is not text goes where it belongs."""
        if isinstance(part, str):
            return part
        if not isinstance(part, Mapping):
            self._odd.append(f"the content holds {_name(part)}, read as text")
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
    """Return the words in a text, in a list of texts, or in an object that has them at a usual place."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_plain, value))
    places = [value.get(key) for key in _PLACES] if isinstance(value, Mapping) else []
    return next((words for words in map(_plain, places) if words), "")


def _tokens(usage: object, odd: list[str]) -> tuple[int, int, int]:
    """Return the tokens read, written, and read from a cache."""
    told: Mapping[str, Any] = usage if isinstance(usage, Mapping) else {}
    details = told.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    for name, value in (("usage", usage), ("prompt_tokens_details", details)):
        if value is not None and not isinstance(value, Mapping):
            odd.append(f"{name} was {_name(value)}, read as nothing")
    found = [
        token_count(name, value)
        for name, value in (
            ("prompt_tokens", told.get("prompt_tokens")),
            ("completion_tokens", told.get("completion_tokens")),
            ("cached_tokens", cached),
        )
    ]
    odd += [oddity for _, oddity in found if oddity]
    return found[0][0], found[1][0], found[2][0]


def _text(value: object, name: str, odd: list[str]) -> str:
    """Return a short text of the server's; empty where it sends none or something else."""
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
    """Return what a JSON value is called."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")
