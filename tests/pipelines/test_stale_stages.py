"""What DVC finds stale in a built lake: after edits of parameters, without an agent, with records of earlier code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_lock import read_lock, write_lock
from affectlake.lake.store.dvc_stages import is_current
from affectlake.lake.store.stage_definitions import recorded_as_defined
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.stored import stored
from tests.support.chat_lakes import SETTINGS, run

DOTTED = "model-4.1"
"""Legal, and a key below it cannot be named in DVC, whose keys have dots between their words."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("stale") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {
        "human-category": {"kind": "ratings", "ratings": "category", "l1": 0.004},
        DOTTED: {"kind": "ratings", "ratings": "dimension", "l1": 0.004},
    }
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    run(lake)
    assert stale(lake) == set()
    return lake


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "lake", symlinks=True)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    body = yaml.safe_load(path.read_text())
    change(body)
    path.write_text(yaml.safe_dump(body, sort_keys=False))


def stale(lake: Path) -> set[str]:
    """The stages that DVC finds stale, once dvc.yaml is what params.yaml gives; the quick comparison finds the same."""
    dvcfile.write(lake)
    params = load(lake)
    graph = stages(params, stored(lake))
    found = {name for name in graph if not is_current(lake, name)}
    same = recorded_as_defined(lake, read_lock(lake), dvcfile.definitions(graph, params, lake))
    assert same == set(graph) - found
    return found


def of_both(*steps: str) -> set[str]:
    return {f"{step}@{agent}" for step in steps for agent in ("human-category", DOTTED)}


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("geometry", "perplexity", 6.0, of_both("lay_out")),
        ("geometry", "label_gap", 0.2, of_both("measure", "describe")),
        ("sweeps", "share", 0.9, of_both("measure")),
        ("proposals", "share", 0.1, set()),
    ],
)
def test_a_parameter_stales_the_steps_that_read_it(
    lake: Path, section: str, key: str, value: float, expected: set[str]
) -> None:
    edit(lake / "params.yaml", lambda body: body[section].update({key: value}))
    assert stale(lake) == expected


def test_an_agents_entry_stales_its_own_stages_even_with_a_dot_in_its_name(lake: Path) -> None:
    edit(lake / "params.yaml", lambda body: body["agents"][DOTTED].update(l1=0.01))
    found = stale(lake)
    assert {f"embed@{DOTTED}", f"sweep@{DOTTED}"} < found
    assert not [name for name in found if name.endswith("@human-category")]


def test_an_agent_taken_out_stales_what_sets_agents_beside_one_another(lake: Path) -> None:
    edit(lake / "params.yaml", lambda body: body["agents"].pop(DOTTED))
    assert stale(lake) == {"compare", "align_agents", "rank_agents"}
    run(lake)
    assert set(read_output(lake, Output("comparisons")).collect()["agent"]) == {"human-category"}


def test_a_section_that_was_recorded_says_what_its_keys_were(lake: Path) -> None:
    params = yaml.safe_load((lake / "params.yaml").read_text())
    sections = ("geometry", "sources", "sweeps")

    def by_section(body: dict[str, Any], perplexity: float) -> None:
        """Record whole sections, as steps named them once."""
        for entry in body["stages"].values():
            keys = entry.get("params", {}).get("params.yaml", {})
            for section in {key.partition(".")[0] for key in keys} & set(sections):
                keys |= {section: params[section]}
                if section == "geometry":
                    keys[section] = params[section] | {"perplexity": perplexity}
            for key in [key for key in keys if key.partition(".")[0] in sections and "." in key]:
                del keys[key]

    edit(lake / "dvc.lock", lambda body: by_section(body, params["geometry"]["perplexity"]))
    assert "geometry.label_gap" not in (lake / "dvc.lock").read_text()
    assert stale(lake) == set()
    edit(lake / "dvc.lock", lambda body: by_section(body, 7.0))
    assert stale(lake) == of_both("lay_out")


def test_a_key_that_a_recorded_section_lacked_is_new(lake: Path) -> None:
    def without_share(body: dict[str, Any]) -> None:
        for entry in body["stages"].values():
            entry.get("params", {}).get("params.yaml", {}).pop("sweeps.share", None)

    edit(lake / "dvc.lock", without_share)
    assert stale(lake) == of_both("measure")


def test_a_key_that_may_be_left_out_is_noticed_when_it_comes_and_when_it_goes(lake: Path) -> None:
    edit(lake / "params.yaml", lambda body: body["sources"].pop("clips"))
    assert stale(lake) == {"decode"}
    run(lake)
    assert stale(lake) == set()
    edit(lake / "params.yaml", lambda body: body["sources"].update(clips=False))
    assert stale(lake) == {"decode"}


def test_a_key_that_was_added_later_stales_no_lake_without_it_and_is_noticed_when_it_comes_and_goes(lake: Path) -> None:
    """Lakes made before the key existed are as with its default."""
    (recorded,) = (entry["params"]["params.yaml"] for name, entry in yaml.safe_load(
        (lake / "dvc.lock").read_text())["stages"].items() if name == "decode")  # fmt: skip
    assert recorded.keys() >= {"sources.kind", "sources.clips"}
    assert not {"sources", "sources.frame_sampling"} & recorded.keys()
    assert stale(lake) == set()
    n = read_output(lake, Output("frames")).collect().height
    edit(lake / "params.yaml", lambda body: body["sources"].update(frame_sampling="qwen2-vl"))
    assert stale(lake) == {"decode"}
    run(lake)
    assert stale(lake) == set()
    edit(lake / "params.yaml", lambda body: body["sources"].pop("frame_sampling"))
    assert stale(lake) == {"decode"}
    run(lake)
    assert stale(lake) == set()
    assert read_output(lake, Output("frames")).collect().height == n


def change_a_byte(part: Path) -> None:
    """Change a byte, and neither the size nor the time of change of content."""
    part.chmod(0o644)
    before, content = part.stat(), bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.unlink()  # it may share its bytes with the cache
    part.write_bytes(content)
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        change_a_byte,
        lambda part: part.unlink(),
        lambda part: part.rename(part.with_name("part-1.parquet")),
        lambda part: shutil.rmtree(part.parent),
        lambda part: part.with_name("part-1.parquet").write_bytes(b""),
        lambda part: (part.parent / "below").mkdir() or (part.parent / "below" / "notes.txt").write_text("x"),
    ],
    ids=["a byte", "no part", "another name", "no folder", "another part", "a file below"],
)
def test_a_table_that_is_not_as_recorded_stales_its_stage_and_its_readers(
    lake: Path, damage: Callable[[Path], object]
) -> None:
    folder = lake / "storage/tables/fits/human-category"
    damage(next(folder.glob("part-*.parquet")))
    graph = stages(load(lake), stored(lake))
    table = Output("fits", "human-category")
    assert stale(lake) == {name for name, stage in graph.items() if table in (*stage.reads, *stage.writes)}


@pytest.mark.parametrize(
    "edit_record",
    [
        lambda entry: entry.update(cmd=entry["cmd"] + "1"),
        lambda entry: entry["outs"][0].update(md5="0" * 32 + ".dir"),
        lambda entry: entry["deps"][0].update(md5="0" * 32 + ".dir"),
        lambda entry: entry["params"]["params.yaml"].update(seed=7),
        lambda entry: entry["params"]["params.yaml"].pop("seed"),
        lambda entry: entry.pop("outs"),
    ],
    ids=["command", "output", "input", "value", "no value", "no outputs"],
)
def test_a_record_that_differs_stales_its_stage(lake: Path, edit_record: Callable[[Any], object]) -> None:
    lock = yaml.safe_load((lake / "dvc.lock").read_text())
    edit_record(lock["stages"]["lay_out@human-category"])
    write_lock(lake, lock)
    assert stale(lake) == {"lay_out@human-category"}


def test_an_up_to_date_run_does_not_need_dvc(lake: Path) -> None:
    code = "import sys; from affectlake.cli.main import main\ntry: main()\nfinally: print('dvc.repo' in sys.modules)"
    command = [sys.executable, "-c", code, "run", "--no-report", "--lake", str(lake)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "up to date" in done.stderr
    assert done.stdout.splitlines()[-1] == "False"
