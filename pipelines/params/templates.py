"""The templates of new studies for ``affectlake init --study NAME``, each a ``params.yaml``."""

from __future__ import annotations

from importlib.resources import files

from affectlake.errors import UsageError, nearest


def studies() -> list[str]:
    """Return the names of the templates, sorted."""
    folder = files("affectlake.pipelines.params").joinpath("studies")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def starting_params(study: str) -> str:
    """Return the text of the ``params.yaml`` of a template."""
    if study not in studies():
        raise UsageError(f"there is no study {study!r}", allowed=", ".join(studies()), todo=nearest(study, studies()))
    return files("affectlake.pipelines.params").joinpath("studies", f"{study}.yaml").read_text(encoding="utf-8")
