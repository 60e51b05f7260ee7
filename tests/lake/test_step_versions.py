"""A version of a lake says which steps changed since the one before; versions that say nothing of it stay readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from affectlake.cli.main import main
from affectlake.lake import repository
from affectlake.lake.files.git import git
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.process.code_version import code_version
from tests.support.lakes import put

STAGE = """\
  {name}:
    cmd: affectlake step {step} --step-version {version}
    deps: [params.yaml]
"""


def made_by(lake: Path, stages: dict[str, int]) -> None:
    """Let DVC record that each stage has run, of its step's version."""
    text = "".join(STAGE.format(name=name, step=name.partition("@")[0], version=n) for name, n in stages.items())
    own = "  mine:\n    cmd: affectlake step-like --step-version 9\n    deps: [params.yaml]\n"
    (lake / "dvc.yaml").write_text(f"stages:\n{text}{own}")
    for name in (*stages, "mine"):
        record_done(lake, name)


def test_a_version_says_which_steps_changed(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stages, expected in (
        ({"embed": 3, "lay_out": 1}, ""),
        ({"embed": 4, "lay_out": 1, "describe": 12}, "describe 12 (new), embed 3 -> 4"),
        ({"embed": 4, "describe": 13}, "describe 12 -> 13"),
    ):
        made_by(lake, stages)
        assert repository.publish(lake) is not None
        assert resolve(lake).steps == expected
        assert resolve(lake).code_version == code_version()
    main(["versions", "--lake", str(lake), "--json"])
    assert [row["steps"] for row in json.loads(capsys.readouterr().out)][:2] == [
        "describe 12 -> 13",
        "describe 12 (new), embed 3 -> 4",
    ]


def test_a_version_is_shown_with_them(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        made_by(lake, {"embed": number})
        repository.publish(lake)
    main(["versions", "show", "--lake", str(lake)])
    first, steps, environment, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("v2 ") and first.endswith(f"affectlake {code_version()}")
    assert steps == "    steps: embed 1 -> 2"
    assert environment.startswith("    environment: python ")


def test_versions_of_older_programs_are_read_as_they_are(lake: Path) -> None:
    put(lake)
    repository.publish(lake)
    tree = git(lake, "rev-parse", "HEAD^{tree}").strip()
    message = "v2: 1 outputs changed\n\n  choices/tiny: +4 rows (224)\n\nAffectlake-Code: 0.1.0\n"
    old = git(
        lake, "-c", "user.name=x", "-c", "user.email=x@x", "commit-tree", tree, "-p", "HEAD", stdin=message
    ).strip()
    git(lake, "update-ref", "refs/tags/lake/v2", old)
    found = list_versions(lake)[-1]
    assert (found.name, found.code_version, found.steps) == ("v2", "0.1.0", "")
    assert found.changes == "choices/tiny: +4 rows (224)"
