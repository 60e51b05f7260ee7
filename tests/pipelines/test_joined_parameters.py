"""What becomes of parameters when lakes are joined, also of those that only an earlier release takes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.lake.joining.join import Sides
from affectlake.pipelines.collection.joining import merged_params
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import parse
from tests.support.chat import ENTRY

SECOND = ENTRY | {"l1": 0.004}


def text(*, agents: dict[str, Any] | None = None, **spose: Any) -> bytes:
    """The demo's parameters with further agents and settings of fits."""
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["agents"] |= agents or {}
    raw["spose"] |= spose
    return yaml.safe_dump(raw, sort_keys=False).encode()


def joined(ours: bytes, theirs: bytes, folder: bytes = b"", base: bytes = b"") -> tuple[Any, list[str]]:
    """The parameters of the joined version as YAML reads them, and what is said of them."""
    done = merged_params(Sides(folder or ours, ours, [theirs], base, {}))
    return yaml.safe_load(done.text), done.notes


def test_an_agent_that_only_they_have_is_added() -> None:
    found, notes = joined(text(), text(agents={"second": SECOND}, dimensions=5), base=text())
    assert found["agents"]["second"] == SECOND
    assert notes == [
        "params.yaml: their agent second is added",
        "params.yaml differs in: spose.dimensions (ours 30, theirs 5)",
    ]


def test_settings_that_an_earlier_release_took_stop_no_join() -> None:
    ours, theirs = text(l1=0.01), text(l1=0.01, agents={"second": SECOND})
    with pytest.raises(UsageError, match=r"spose\.l1 has no effect"):
        parse(ours.decode())
    found, notes = joined(ours, theirs, base=text(l1=0.01))
    assert found["agents"]["second"] == SECOND
    assert found["spose"]["l1"] == 0.01  # `affectlake run` says that it is to be removed
    assert notes == ["params.yaml: their agent second is added"]


def test_what_a_person_resolved_in_the_folder_is_ours_also_with_such_settings() -> None:
    found, _ = joined(text(l1=0.01), text(), folder=text(l1=0.01, dimensions=7))
    assert found["spose"]["dimensions"] == 7
    found, _ = joined(text(l1=0.01), text(), folder=text(l1=0.01, dimensions="many"))
    assert found["spose"]["dimensions"] == 30
    found, _ = joined(text(), text(), folder=b"<<<<<<< ours\nseed: 1\n")
    assert found["seed"] == 2025


def test_an_agent_that_does_not_fit_is_left_out_and_its_mistake_said() -> None:
    found, notes = joined(text(l1=0.01), text(agents={"second": SECOND | {"model": 3}, "Caption-tfidf": SECOND}))
    assert set(found["agents"]) == {"human-category", "human-dimension", "caption-tfidf"}
    assert notes[0] == "params.yaml: their agent second is left out: agents.second.model must be a text"
    assert notes[1].startswith(
        "params.yaml: their agent Caption-tfidf is left out: agents: 'Caption-tfidf' is not a name"
    )
    assert joined(text(), b"agents: [")[1][0].startswith("their params.yaml is ignored: while parsing")
