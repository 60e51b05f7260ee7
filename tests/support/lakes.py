"""Tiny lakes for tests, and where the repository is."""

from __future__ import annotations

from pathlib import Path

import yaml

from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables import factory, writing

ROOT = Path(__file__).parents[2]

OUTPUTS = (Output("stimuli"), Output("triplets"), Output("choices", "tiny"))


def put(lake: Path, n_stimuli: int = 12) -> None:
    """Write tiny tables into `lake` and let DVC keep them, as a build does."""
    tables = factory.tiny_lake(n_stimuli)
    frames = {output: tables[output.table] for output in OUTPUTS}
    writing.write_outputs(lake, "tiny", frames, {name: frame.lazy() for name, frame in tables.items()})
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in OUTPUTS]
    (lake / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"tiny": {"cmd": "affectlake step tiny --step-version 1", "outs": outs}}})
    )
    record_done(lake, "tiny")
