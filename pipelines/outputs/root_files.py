"""The files at the root of a lake by which it explains itself: ``README.md`` and ``CITATION.cff``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from affectlake.lake.files import layout
from affectlake.lake.store.versions import Manifest
from affectlake.pipelines.outputs.lake_citation import lake_citation
from affectlake.pipelines.outputs.lake_readme import first_readme, lake_readme


def root_files(lake: Path, raw: Mapping[str, Any]) -> Callable[[Manifest], dict[Path, bytes | None]]:
    """Return a function from the manifest of a version to the files to write, by path; None: to remove.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    raw : mapping
        Parsed content of the ``params.yaml`` of the version.
    """

    def written(manifest: Manifest) -> dict[Path, bytes | None]:
        readme = lake_readme(lake, raw, manifest)
        return ({} if readme is None else {layout.README: readme}) | lake_citation(lake, raw)

    return written


def write_first_files(lake: Path, raw: Mapping[str, Any]) -> None:
    """Write these files into a lake without versions."""
    files = {layout.README: first_readme(raw).encode(), **lake_citation(lake, raw)}
    for path, content in files.items():
        if content is not None:
            (lake / path).write_bytes(content)
