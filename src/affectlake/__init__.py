"""affectlake: ask models how emotions differ, keep every answer in exact versions, compare with people and brains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from affectlake import figures as figures
    from affectlake.lake.open import Lake
else:

    def __getattr__(name: str) -> object:
        if name == "figures":  # loaded when asked for: it brings Matplotlib
            from importlib import import_module

            return import_module("affectlake.figures")
        raise AttributeError(f"module 'affectlake' has no attribute {name!r}")


def open(path: str | Path = ".") -> Lake:
    """Return the lake that `path` is in, to be read at its versions."""
    from affectlake.lake.open import open_lake

    return open_lake(path)


def __getattr__(name: str) -> str:
    """Return ``affectlake.__version__``, which a checkout has to ask Git for."""
    if name != "__version__":
        raise AttributeError(f"module 'affectlake' has no attribute {name!r}")
    from affectlake.process.code_version import code_version

    return code_version()
