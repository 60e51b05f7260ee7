"""Going on after a writer that was cut off, by a kill, a full disk or a power failure. Comes before every write.

What is finished here needs no step to run: a checkout, the placing of appended parts, tables lost from the folder.
Tables that a step had put in place and DVC had not recorded are left: DVC finds the step stale, and the next run makes
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
from affectlake.lake.store.dvc_stages import mend_lock, refuse_edited, restore_missing
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.lake.tables.appending import settle


def recover(lake: Path, say: Callable[[str], None]) -> None:
    """Finish what a writer that was cut off left; the caller holds the writer lock.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    say : callable
        Takes one line for each thing that is finished.

    Raises
    ------
    LakeError
        If a table was changed by hand, or Git merged another lake's history into this one.
    """
    sweep(lake)
    finish_advance(lake, say)
    refuse_unjoined(lake)
    mend_lock(lake, say)
    finish_checkout(lake, say)
    settle(lake)
    refuse_edited(lake)
    restore_missing(lake, say)


def sweep(lake: Path) -> None:
    """Remove files that a write that was cut off left, of those that Git would see: of no other names."""
    for name in (layout.PARAMS, layout.PIPELINE, layout.PIPELINE_LOCK):
        _remove_unfinished(lake.glob(f".{name}{UNFINISHED}*"))
    _remove_unfinished(own_path(lake, layout.COLLECTED).rglob(f".*.dvc{UNFINISHED}*"))


def _remove_unfinished(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file():
            path.unlink()
