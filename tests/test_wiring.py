"""The mistakes of wiring that the mutation run plants are mistakes in the code as it is."""

from __future__ import annotations

import pytest
import yaml

from tests.support.lakes import ROOT

MISTAKES: dict[str, list[str]] = yaml.safe_load((ROOT / "tests/mutants/wiring.yaml").read_text())


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_can_be_planted_in_one_place(name: str) -> None:
    path, right, wrong = MISTAKES[name]
    assert (ROOT / path).read_text().count(right) == 1
    assert right != wrong
