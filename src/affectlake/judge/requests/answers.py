"""What came back for a question: an answer kept verbatim, or a failure with its kind and the server's words.

What an answer means is not decided here.
"""

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
    "overloaded": "the server has too much to do (429, 503, 529)",
    "server_error": "the server failed (another 5xx), or gave up an answer that it had begun",
    "timed_out": "no whole answer within the time limit",
    "reset": "the connection broke before the answer was whole",
    "truncated": "the answer's JSON is cut short",
    "malformed": "JSON, but no chat completion",
    "too_long": "the answer is longer than a chat completion can be",
    "rejected": "the server refuses this request (4xx)",
    "unauthorised": "the server does not accept the API key",
    "no_such_model": "the server does not serve this model, or nothing at this path",
    "wrong_model": "another model answered",
    "out_of_credit": "the account has no credit left",
}

PASSING: frozenset[FailureKind] = frozenset(
    {"unreachable", "overloaded", "server_error", "timed_out", "reset", "truncated"}
)
"""What may have passed when the same question is asked again."""

HOPELESS: frozenset[FailureKind] = frozenset({"unauthorised", "no_such_model", "wrong_model", "out_of_credit"})
"""What every other question would meet as well: these stop a run and are never a row."""


class Reply(NamedTuple):
    """What a server said.

    Attributes
    ----------
    text : str
        The answer, verbatim; empty where the server sent none. Neither what the model thought nor what it declined.
    finish_reason : str
        Why it ended, in the server's word.
    logprobs : str or None
        The choice's log-probabilities as JSON, as they came.
    prompt_tokens, completion_tokens, cached_tokens : int
        Tokens read, written, and read from the server's prefix cache; 0 where the server does not say.
    model : str
        The model that the server says has answered; empty where it does not say.
    thinking : str or None
        What the model thought, where the server keeps it apart from the answer.
    refusal : str or None
        The words in which the model declines, where the server keeps them apart from the answer.
    oddities : str or None
        What was odd in the server's reply and how it was read, on one line.
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


class Failure(Exception):  # noqa: N818 - an outcome, not a mistake of the program
    """An attempt that brought no answer.

    Parameters
    ----------
    kind : FailureKind
        What went wrong.
    words : str
        The server's or the system's words, without secrets.
    retry_after_s : float
        How long the server asked not to be asked; 0 where it did not.
    """

    def __init__(self, kind: FailureKind, words: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind: FailureKind = kind
        self.words = words
        self.retry_after_s = retry_after_s


class Answer(NamedTuple):
    """A row of the journal: the question's identity, and what came of it.

    Attributes
    ----------
    key, trial_set, i, j, k, repeat, order, captions
        As in :class:`~affectlake.judge.trials.questions.Question`.
    text : str or None
        The answer, verbatim; None if the question failed for good.
    finish_reason, logprobs, prompt_tokens, completion_tokens, cached_tokens
        As in :class:`Reply`; of a failed question empty, None and 0.
    error_kind, error_words : str or None
        What went wrong for good and in which words; None for an answer.
    attempts : int
        How often the question was sent, 1 or more.
    seconds : float
        How long the last attempt took.
    served_model : str or None
        The model that the server says has answered; None where it does not say.
    thinking, refusal, oddities : str or None
        As in :class:`Reply`; of a failed question None.
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


ASKED = ("key", "trial_set", "i", "j", "k", "repeat", "order", "captions")
"""What an answer takes over from its question."""


def answered(question: Question, reply: Reply, attempts: int, seconds: float) -> Answer:
    """Return the row of a question that was answered."""
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
        error_words=failure.words,
        attempts=attempts,
        seconds=seconds,
    )


def _asked(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in ASKED}
