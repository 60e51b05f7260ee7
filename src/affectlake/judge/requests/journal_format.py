"""The tables of a journal, and the statements that migrate a journal of an earlier format."""

from __future__ import annotations

from affectlake.judge.requests.answers import ASKED, Answer

FORMAT = 3

_ANSWER = """
    key BLOB NOT NULL, trial_set TEXT NOT NULL, i INTEGER NOT NULL, j INTEGER NOT NULL, k INTEGER NOT NULL,
    repeat INTEGER NOT NULL, "order" TEXT NOT NULL, captions TEXT,
    text TEXT, finish_reason TEXT NOT NULL, logprobs TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    error_kind TEXT, error_words TEXT, attempts INTEGER NOT NULL, seconds REAL NOT NULL
"""
_SINCE_2 = ("served_model", "thinking", "refusal", "oddities")
_SINCE_3 = {"limited_by": "TEXT", "masked": "INTEGER"}

TO_2 = (
    f"CREATE TABLE IF NOT EXISTS answers (id INTEGER PRIMARY KEY AUTOINCREMENT, {_ANSWER}, UNIQUE (key)) STRICT",
    """CREATE TABLE IF NOT EXISTS shards (
    number INTEGER PRIMARY KEY AUTOINCREMENT, first_id INTEGER NOT NULL, last_id INTEGER NOT NULL,
    n_answers INTEGER NOT NULL, published INTEGER NOT NULL DEFAULT 0
) STRICT""",
    *(f"ALTER TABLE answers ADD COLUMN {name} TEXT" for name in _SINCE_2),
    f"""CREATE TABLE quarantined (
    id INTEGER PRIMARY KEY AUTOINCREMENT, {_ANSWER}, {", ".join(f"{name} TEXT" for name in _SINCE_2)},
    reason TEXT NOT NULL, shard INTEGER NOT NULL
) STRICT""",
    "CREATE INDEX quarantined_by_key ON quarantined (key)",
)
TO_3 = (
    *(f"ALTER TABLE answers ADD COLUMN {name} {kind}" for name, kind in _SINCE_3.items()),
    *(f"ALTER TABLE quarantined ADD COLUMN {name} {kind}" for name, kind in _SINCE_3.items()),
    f"PRAGMA user_version = {FORMAT}",
)

STATEMENTS = {0: (*TO_2, *TO_3), 1: (*TO_2, *TO_3), 2: TO_3}
"""Statements that bring a file of an earlier format, or a new one (0), to `FORMAT`, to be run in one transaction."""

COLUMNS = ", ".join(Answer._fields).replace("order", '"order"')
"""The columns of an answer, quoted where SQL requires it."""

OUTCOME = tuple(name for name in Answer._fields if name not in (*ASKED, "attempts"))
"""Columns with the outcome of a question."""
