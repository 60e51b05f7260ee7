"""Conversion of answers to rows of the ``responses`` table, and of these rows to choices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.label_probabilities import weigh
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.payloads import token_count
from affectlake.judge.responses.parsed import Parsed
from affectlake.judge.responses.parsing import parse
from affectlake.judge.trials.orders import order_codes
from affectlake.judge.trials.plan import SHOWN
from affectlake.judge.trials.request_keys import canonical
from affectlake.triplets import TRIPLET

IDENTITY = ["trial_set", *TRIPLET, "repeat"]

OF_AGENT = ("agent", "protocol", "model", "revision", "sampling")
"""Columns of ``responses`` with the agent's settings; they are the same in all rows of one entry of ``agents``."""

DECLINED = frozenset({
    "refusal", "content_filter", "content-filter", "safety", "prohibited_content", "blocklist", "recitation",
    "sensitive",
})  # fmt: skip
"""``finish_reason`` of an answer that the model or its provider declined; text before a filter is not a choice."""


CHANCES = ("p1", "p2", "p3")
"""Columns of ``responses`` with the probabilities of the positions in a one-token answer."""


class Readings(NamedTuple):
    """Responses as choices.

    Attributes
    ----------
    choices : polars.DataFrame
        ``trial_set, i, j, k, repeat, odd, position, order_code``: one row per response that gives a position;
        ``position`` is 1, 2 or 3 as shown and ``order_code`` a row of
        :data:`affectlake.judge.trials.orders.ORDERS`.
    unparsed : polars.DataFrame
        ``trial_set, i, j, k, repeat, request_key, unparsed_reason``: the others.
    """

    choices: pl.DataFrame
    unparsed: pl.DataFrame


_TYPES: dict[str, type[pl.DataType]] = {
    "request_key": pl.Binary,
    "trial_set": pl.String,
    **dict.fromkeys(("i", "j", "k"), pl.Int32),
    "repeat": pl.Int16,
    **dict.fromkeys(("shown_1", "shown_2", "shown_3"), pl.Int32),
    **dict.fromkeys(("caption_1", "caption_2", "caption_3"), pl.Int16),
    **dict.fromkeys(("answer", "finish_reason", "logprobs"), pl.String),
    **dict.fromkeys(("p1", "p2", "p3", "leftover"), pl.Float64),
    "limited_by": pl.String,
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens"), pl.Int32),
    **dict.fromkeys(("error_kind", "error_words"), pl.String),
    "attempts": pl.Int16,
    **dict.fromkeys(("served_model", "thinking", "refusal", "oddities"), pl.String),
}


def response_rows(agent: ChatAgent, answers: Iterable[Answer]) -> pl.DataFrame:
    """Return the rows of ``responses`` (all columns but ``shard``) for answers to an agent's questions.

    Parameters
    ----------
    agent : ChatAgent
        The agent, with its settings.
    answers : iterable of Answer
        The answers and failures, in any order.
    """
    rows = [_row(agent.asking, answer) for answer in answers]
    who = (agent.name, agent.protocol, agent.model, agent.revision, canonical(agent.sampling.as_mapping()))
    return pl.DataFrame(rows, schema=_TYPES, orient="row").with_columns(
        pl.lit(value, dtype=pl.String).alias(name) for name, value in zip(OF_AGENT, who, strict=True)
    )


def _row(asking: Protocol, answer: Answer) -> tuple[object, ...]:
    members = (answer.i, answer.j, answer.k)
    chances, oddity = None, None
    if asking.asks_one_token:
        chances, oddity = weigh(answer.logprobs, asking.labels, masked=bool(answer.masked))
    tokens, odd = zip(  # journals of earlier versions may contain invalid counts
        *(token_count(name, getattr(answer, name)) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")),
        strict=True,
    )
    return (
        answer.key,
        answer.trial_set,
        *members,
        answer.repeat,
        *(members[member - 1] for member in answer.order),
        *(answer.captions or (None, None, None)),
        answer.text if answer.error_kind is None else None,
        answer.finish_reason,
        answer.logprobs,
        *(chances or (None, None, None, None)),
        answer.limited_by,
        *tokens,
        answer.error_kind,
        answer.error_words,
        answer.attempts,
        answer.served_model,
        answer.thinking,
        answer.refusal,
        "; ".join(filter(None, (answer.oddities, *odd, oddity))) or None,
    )


def read_choices(rows: pl.DataFrame, asking: Protocol) -> Readings:
    """Parse responses, and convert positions to stimuli.

    Parameters
    ----------
    rows : polars.DataFrame
        Rows of ``responses``.
    asking : Protocol
        The protocol to which they are responses.
    """
    read = read_rows(rows, asking)
    return Readings(
        choices=read.filter(pl.col("position").is_not_null()).select(*IDENTITY, "odd", "position", "order_code"),
        unparsed=read.filter(pl.col("position").is_null()).select(*IDENTITY, "request_key", "unparsed_reason"),
    )


def read_rows(rows: pl.DataFrame, asking: Protocol) -> pl.DataFrame:
    """Parse responses, as :func:`read_choices`, and return a row for each.

    Returns
    -------
    polars.DataFrame
        ``trial_set, i, j, k, repeat, request_key, error_kind, position, odd, unparsed_reason, order_code, p1, p2, p3``.
    """
    found = [
        (None, "error") if text is None else read_answer(asking, text, *said)
        for text, *said in rows.select("answer", "finish_reason", "refusal", "thinking").iter_rows()
    ]
    triplets, in_order = (rows.select(names).to_numpy().astype(np.int32).reshape(-1, 3) for names in (TRIPLET, SHOWN))
    position = pl.Series("position", [one[0] for one in found], dtype=pl.Int8)
    reasons = pl.Series("unparsed_reason", [one[1] for one in found], dtype=pl.String)
    return rows.select(
        *IDENTITY,
        "request_key",
        "error_kind",
        position,
        reasons,
        *CHANCES,
        odd=pl.coalesce(pl.when(position == p).then(f"shown_{p}") for p in (1, 2, 3)),
        order_code=pl.Series(order_codes(triplets, in_order), dtype=pl.UInt8),
    )


def read_answer(
    asking: Protocol, text: str, finish_reason: str, refusal: str | None = None, thinking: str | None = None
) -> Parsed:
    """Return the position that an answer gives, or the reason why it does not give one.

    The position is read only from `text`. An answer with a `refusal`, or with a `finish_reason` in `DECLINED`, is a
    refusal regardless of its text. An answer whose token limit was reached during the reasoning is ``truncated``.
    """
    if (refusal or "").strip() or finish_reason.partition(":")[0].strip().lower() in DECLINED:
        return Parsed(None, "refusal")
    cut_off = finish_reason == "length"
    if cut_off and not text.strip() and (thinking or "").strip():
        return Parsed(None, "truncated")
    return parse(text, asking, cut_off=cut_off)


def probabilities_of(asking: Protocol, answers: Sequence[Answer]) -> NDArray[np.float64]:
    """Return the probabilities of the positions in collected answers, float64 (n, 3); NaN where there are none."""
    nothing = (np.nan, np.nan, np.nan)
    if not asking.asks_one_token:
        return np.full((len(answers), 3), np.nan)
    found = (weigh(answer.logprobs, asking.labels).probabilities for answer in answers)
    return np.array([nothing if one is None else one[:3] for one in found], dtype=np.float64).reshape(-1, 3)


def parsed_answer(asking: Protocol, answer: Answer) -> Parsed:
    """Return the position that a collected answer gives, or the reason why it does not give one."""
    return read_answer(asking, answer.text or "", answer.finish_reason, answer.refusal, answer.thinking)


def latest(rows: pl.DataFrame, *also: str) -> pl.DataFrame:
    """Return one response for each trial and repeat: the last answer, or the last failure if there is no answer.

    Parameters
    ----------
    rows : polars.DataFrame
        Columns `IDENTITY` and ``error_kind``, with rows in the order of their arrival.
    *also : str
        Further columns, for each of whose values one response is returned: ``order_code``.
    """
    index = np.arange(rows.height)
    ranked = rows.with_columns(_at=pl.Series(index), _answered=pl.col("error_kind").is_null())
    return (
        ranked.sort("_answered", "_at")
        .unique([*IDENTITY, *also], keep="last", maintain_order=True)
        .drop("_at", "_answered")
    )
