"""The quarantine: answers that cannot become rows of ``responses`` remain in their journal, with the reason.

One faulty answer does not prevent the others from being published. Questions of answers in quarantine are not asked
again. Each time answers are published, those in quarantine are checked again, because a corrected parser or contract
may accept them.
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
    """Move the faulty rows of a sealed shard to quarantine; return how many of them are answers.

    Repeating it has no effect, because rows in quarantine are no longer in the shard.
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
    """Release the rows from quarantine that are now valid; return their number. The others get the current reason."""
    n = 0
    for held in journal.quarantined():
        found = faults(agent, [one.answer for one in held])
        verdicts = {one.id: why for one, why in zip(held, found, strict=True) if why != one.reason}
        if verdicts:
            n += journal.review(verdicts)
    return n


def faults(agent: ChatAgent, answers: Sequence[Answer]) -> list[str | None]:
    """Return, for each answer, why it cannot become a row of ``responses``; None for a valid one.

    If making the rows raises an exception, the answer that causes it is found by bisection.
    """
    try:
        rows = response_rows(agent, answers)
    except MemoryError:
        raise
    except Exception as error:  # an error in reading one answer must not block the others
        if len(answers) == 1:
            words = " ".join(f"it cannot be converted to a row: {type(error).__name__}: {error}".split())
            return [words[:_LONGEST_REASON].encode(errors="replace").decode()]
        half = len(answers) // 2
        return faults(agent, answers[:half]) + faults(agent, answers[half:])
    return row_faults(rows.drop(OF_AGENT), contract(GROWING))
