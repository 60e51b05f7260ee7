"""The studies that ``affectlake init --study NAME`` can start: each a ``params.yaml`` to begin from."""

from __future__ import annotations

from importlib.resources import files

from affectlake.errors import UsageError, nearest


def studies() -> list[str]:
    """Return the names of the studies, sorted."""
    folder = files("affectlake.pipelines.params").joinpath("studies")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def starting_params(study: str) -> str:
    """Return the text of the study's ``params.yaml``."""
    if study not in studies():
        raise UsageError(f"there is no study {study!r}", allowed=", ".join(studies()), todo=nearest(study, studies()))
    return files("affectlake.pipelines.params").joinpath("studies", f"{study}.yaml").read_text(encoding="utf-8")
