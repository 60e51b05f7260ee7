"""Forget a participant of an experiment: what the server's file holds, published or not."""

from __future__ import annotations

from pathlib import Path

from affectlake.experiment.session_store import SessionStore
from affectlake.pipelines.experiment.entry import store_path
from affectlake.pipelines.experiment.received import WITHDRAWN, opened


def withdrawn_participants(lake: Path, agent: str) -> list[str]:
    """Return the participants of an agent's session store who withdrew their consent, in order."""
    path = store_path(lake, agent)
    if not path.exists():
        return []
    with opened(path) as database:
        rows = database.execute(
            "SELECT participant FROM participants WHERE state = ? ORDER BY participant", (WITHDRAWN,)
        ).fetchall()
    return [one for (one,) in rows]


def forget_session(lake: Path, agent: str, participant: str) -> bool:
    """Delete everything of a participant from the session store of an agent; return whether there was something."""
    path = store_path(lake, agent)
    if not path.exists():
        return False
    with SessionStore(path) as store:
        return store.forget(participant)
