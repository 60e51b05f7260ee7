"""Recover from a writer that was interrupted by a kill, a full disk or a power failure. Called before every write.

Only work that does not run a step is finished here: a checkout, placing appended parts, restoring missing tables.
Tables that a step had placed and DVC had not recorded are left: the step is stale for DVC, and the next run rebuilds
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from affectlake.lake.advance import finish_advance
from affectlake.lake.checkout import finish_checkout
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import UNFINISHED
from affectlake.lake.files.names import own_path
from affectlake.lake.store.dvc_lock import repair_lock
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.lake.store.working_tables import refuse_edited, restore_missing
from affectlake.lake.tables.appending import place_appended


def recover(lake: Path, say: Callable[[str], None]) -> None:
    """Finish the work of an interrupted writer; the caller holds the writer lock.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    say : callable
        Called with one line for each task that is finished.

    Raises
    ------
    LakeError
        If a table was changed by hand, or Git merged another lake's history into this one.
    """
    remove_unfinished(lake)
    finish_advance(lake, say)
    refuse_unjoined(lake)
    repair_lock(lake, say)
    finish_checkout(lake, say)
    place_appended(lake)
    refuse_edited(lake)
    restore_missing(lake, say)


def remove_unfinished(lake: Path) -> None:
    """Remove temporary files of interrupted writes, of those that Git would list; other files are left."""
    for name in (layout.PARAMS, layout.PIPELINE, layout.PIPELINE_LOCK):
        _unlink(lake.glob(f".{name}{UNFINISHED}*"))
    _unlink((lake / layout.PROTOCOLS).glob(f".*{UNFINISHED}*"))
    _unlink(own_path(lake, layout.COLLECTED).rglob(f".*.dvc{UNFINISHED}*"))


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file():
            path.unlink()
