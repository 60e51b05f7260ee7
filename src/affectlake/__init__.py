"""affectlake: ask models how emotions differ, keep the answers in exact versions, compare with people and brains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from affectlake import figures as figures
    from affectlake.lake.open import Lake

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Return ``affectlake.figures`` or ``affectlake.__version__``, which are loaded when they are first used."""
        if name == "figures":  # it imports Matplotlib
            from importlib import import_module

            return import_module("affectlake.figures")
        if name == "__version__":  # in a checkout it is read from Git
            from affectlake.process.code_version import code_version

            return code_version()
        raise AttributeError(f"module 'affectlake' has no attribute {name!r}")


def open(path: str | Path = ".") -> Lake:
    """Return the lake that contains `path`, for reading its versions.

    Parameters
    ----------
    path : str or Path, default="."
        A folder in the lake, or a file of ``affectlake archive``.
    """
    from affectlake.lake.open import open_lake

    return open_lake(path)
