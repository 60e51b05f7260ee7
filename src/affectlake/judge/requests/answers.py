"""Outcomes of questions: an answer, stored verbatim, or a failure with its kind and the server's message."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from affectlake.judge.trials.questions import Question

FailureKind = Literal[
    "unreachable",
    "overloaded",
    "server_error",
    "timed_out",
    "reset",
    "truncated",
    "malformed",
    "too_long",
    "rejected",
    "unauthorised",
    "no_such_model",
    "wrong_model",
    "out_of_credit",
]

MEANING: dict[FailureKind, str] = {
    "unreachable": "no connection to the server",
    "overloaded": "the server is overloaded (429, 503, 529)",
    "server_error": "the server failed (another 5xx), or abandoned an answer that it had begun",
    "timed_out": "no complete answer within the time limit",
    "reset": "the connection was lost before the answer was complete",
    "truncated": "the answer's JSON is incomplete",
    "malformed": "the answer is JSON, but not a chat completion",
    "too_long": "the answer is longer than a chat completion can be",
    "rejected": "the server refuses this request (4xx)",
    "unauthorised": "the server does not accept the API key",
    "no_such_model": "the server does not serve this model, or does not know this path",
    "wrong_model": "another model answered",
    "out_of_credit": "the account has no credit left",
}

RETRYABLE: frozenset[FailureKind] = frozenset(
    {"unreachable", "overloaded", "server_error", "timed_out", "reset", "truncated"}
)
"""Failures that may not recur when the same question is asked again."""

FATAL: frozenset[FailureKind] = frozenset({"unauthorised", "no_such_model", "wrong_model", "out_of_credit"})
"""Failures that every other question would have as well. They stop a run and are not stored as rows."""


class Reply(NamedTuple):
    """A server's reply.

    Attributes
    ----------
    text : str
        The answer, verbatim, without reasoning and refusal; empty if the server did not send one.
    finish_reason : str
        Why the answer ended, as the server reports it.
    logprobs : str or None
        Log-probabilities of the answer's tokens, as the JSON that was received.
    prompt_tokens, completion_tokens, cached_tokens : int
        Numbers of tokens read, written, and read from the server's prefix cache; 0 if the server does not report them.
    model : str
        Name of the model that answered; empty if the server does not report it.
    thinking : str or None
        The model's reasoning, if the server sends it apart from the answer.
    refusal : str or None
        The model's refusal, if the server sends it apart from the answer.
    oddities : str or None
        Invalid values in the server's reply and how they were read, on one line.
    """

    text: str
    finish_reason: str
    logprobs: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    model: str
    thinking: str | None = None
    refusal: str | None = None
    oddities: str | None = None


class Constraint(NamedTuple):
    """How the answers of one server are limited to the labels of a one-token protocol.

    Attributes
    ----------
    way : str
        A key of :data:`affectlake.judge.requests.constraints.WAYS`; ``extra`` for fields that the agent's entry sets;
        empty if answers are not limited.
    masked : bool or None
        Whether its log-probabilities are computed after other tokens are excluded; None if it sends none.
    """

    way: str
    masked: bool | None


class Failure(Exception):  # noqa: N818 - an outcome, not a mistake of the program
    """An attempt without an answer.

    Parameters
    ----------
    kind : FailureKind
        Kind of failure.
    message : str
        Message of the server or the operating system, without secrets.
    retry_after_s : float
        Seconds for which the server asked for no requests; 0 if it did not ask.
    """

    def __init__(self, kind: FailureKind, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind: FailureKind = kind
        self.message = message
        self.retry_after_s = retry_after_s


class Answer(NamedTuple):
    """A row of the journal: a question and its outcome.

    Attributes
    ----------
    key, trial_set, i, j, k, repeat, order, captions
        As in :class:`~affectlake.judge.trials.questions.Question`.
    text : str or None
        The answer, verbatim; None if the question failed for good.
    finish_reason, logprobs, prompt_tokens, completion_tokens, cached_tokens
        As in :class:`Reply`; empty, None and 0 for a failed question.
    error_kind, error_words : str or None
        Kind and message of the final failure; None for an answer.
    attempts : int
        Number of times the question was sent, at least 1.
    seconds : float
        Duration of the last attempt in seconds.
    served_model : str or None
        Name of the model that answered; None if the server does not report it.
    thinking, refusal, oddities : str or None
        As in :class:`Reply`; None for a failed question.
    limited_by : str or None
        How the server limited the answer to the labels of a one-token protocol; None if it did not.
    masked : int or None
        1 if the log-probabilities are computed after all tokens except labels are excluded, 0 if before; None if there
        are none, or this is not known.
    """

    key: bytes
    trial_set: str
    i: int
    j: int
    k: int
    repeat: int
    order: tuple[int, int, int]
    captions: tuple[int, int, int] | None
    text: str | None
    finish_reason: str
    logprobs: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    error_kind: FailureKind | None
    error_words: str | None
    attempts: int
    seconds: float
    served_model: str | None = None
    thinking: str | None = None
    refusal: str | None = None
    oddities: str | None = None
    limited_by: str | None = None
    masked: int | None = None


ASKED = ("key", "trial_set", "i", "j", "k", "repeat", "order", "captions")
"""Fields that an answer has in common with its question."""


def answered(
    question: Question,
    reply: Reply,
    attempts: int,
    seconds: float,
    constraint: Constraint | None = None,
) -> Answer:
    """Return the row of a question that was answered, with the constraint under which it was asked."""
    way, masked = constraint or (None, None)
    return Answer(
        **_asked(question),
        text=reply.text,
        finish_reason=reply.finish_reason,
        logprobs=reply.logprobs,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cached_tokens=reply.cached_tokens,
        error_kind=None,
        error_words=None,
        attempts=attempts,
        seconds=seconds,
        served_model=reply.model or None,
        thinking=reply.thinking,
        refusal=reply.refusal,
        oddities=reply.oddities,
        limited_by=way or None,
        masked=None if masked is None else int(masked),
    )


def failed(question: Question, failure: Failure, attempts: int, seconds: float) -> Answer:
    """Return the row of a question that failed for good."""
    return Answer(
        **_asked(question),
        text=None,
        finish_reason="",
        logprobs=None,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        error_kind=failure.kind,
        error_words=failure.message,
        attempts=attempts,
        seconds=seconds,
    )


def _asked(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in ASKED}
