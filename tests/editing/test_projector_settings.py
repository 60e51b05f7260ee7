"""The key ``editing.projector`` of ``params.yaml``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from affectlake.editing.settings import TrainingSettings
from affectlake.pipelines.params.projector import ProjectorSettings


def test_defaults_are_those_of_the_training() -> None:
    assert ProjectorSettings().training() == TrainingSettings()


def test_settings_reach_the_training() -> None:
    given = ProjectorSettings(
        lambda_contrastive=0.25, lambda_tokens=2.0, errors="rows", directions="mean", patience=None
    )
    found = given.training()
    assert (found.contrastive, found.tokens, found.scaling, found.directions) == (0.25, 2.0, "rows", "mean")
    assert found.patience is None


@pytest.mark.parametrize("wrong", [{"held_out": 0.5}, {"patience": 0}, {"kind": "linear"}, {"epoch": 3}])
def test_illegal_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ProjectorSettings.model_validate(wrong)


def test_reading_parameters_does_not_import_torch() -> None:
    code = "import sys, affectlake.pipelines.params.projector; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
