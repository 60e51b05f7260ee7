"""Answers that cannot be rows of ``responses``: each waits alone in its journal, with the reason, and is tried again.

What breaks, breaks its own row: the others are published. A row in quarantine is not asked again; each time answers are
published it is looked at again, so that a mended parser or contract takes it in.
"""

from __future__ import annotations

from collections.abc import Sequence

from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.journal import Journal, Shard
from affectlake.judge.responses.tables import OF_AGENT, response_rows
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.row_faults import row_faults
from affectlake.pipelines.stored import GROWING

_LONGEST_REASON = 300


def set_aside_faulty(agent: ChatAgent, journal: Journal, shard: Shard) -> int:
    """Put those answers of a sealed shard into quarantine that cannot be rows; return how many are answers.

    Harmless when it is done twice: what is there already is no longer in the shard.
    """
    n = 0
    for answers in journal.read(shard):
        found = faults(agent, answers)
        reasons = {answer.key: why for answer, why in zip(answers, found, strict=True) if why}
        if reasons:
            journal.set_aside(shard, reasons)
        n += sum(answer.key in reasons and answer.error_kind is None for answer in answers)
    return n


def retry_quarantined(agent: ChatAgent, journal: Journal) -> int:
    """Let go of what is in quarantine and can be a row now; return how many. The rest gets the reason of today."""
    n = 0
    for held in journal.quarantined():
        found = faults(agent, [one.answer for one in held])
        verdicts = {one.id: why for one, why in zip(held, found, strict=True) if why != one.reason}
        if verdicts:
            n += journal.review(verdicts)
    return n


def faults(agent: ChatAgent, answers: Sequence[Answer]) -> list[str | None]:
    """Return, for each answer, why it cannot be a row of ``responses``; None for one that can.

    An answer that no row can be made of, whatever the exception, is found by halving.
    """
    try:
        rows = response_rows(agent, answers)
    except MemoryError:
        raise
    except Exception as error:  # a mistake in reading one answer must not hold up the others
        if len(answers) == 1:
            words = " ".join(f"no row can be made of it: {type(error).__name__}: {error}".split())
            return [words[:_LONGEST_REASON].encode(errors="replace").decode()]
        half = len(answers) // 2
        return faults(agent, answers[:half]) + faults(agent, answers[half:])
    return row_faults(rows.drop(OF_AGENT), contract(GROWING))
