"""``make docs`` names what a change lacks; each part is left out in a copy of the repository, in which it then runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from affectlake.omissions import omissions
from tests.support.lakes import ROOT

STEP = '''

@step(reads=("stimuli",), writes=("heights",), version=1)
def measure_heights(tables: Tables, params: Params, work: Work) -> Frames:
    """Measure the height of every stimulus."""
    return {"heights": tables["stimuli"].select("stimulus_index", height=pl.lit(1.0)).collect()}
'''
TABLE = """version: 1
grain: one row per stimulus
key: [stimulus_index]
columns: [stimulus_index, score]
references: [{columns: [stimulus_index], table: stimuli}]
"""
KIND = '''
class RandomAgent(Respondent):
    """Chooses at random."""

    modality: ClassVar[Modality | None] = None
    protocol: ClassVar[str] = "random/1"

    kind: Literal["random"]


Agent: TypeAlias = RandomAgent | '''
FIGURE = '''
def lengths(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw nothing."""
    raise FigureError("nothing to draw")
'''


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What ``make docs`` prints after a careless change."""
    root = tmp_path_factory.mktemp("changed")
    for name in ("src", "pipelines", "flows", "schemas", "docs", "storage"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)

    def edit(name: str, old: str, new: str) -> None:
        path = root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    (root / "schemas/tables/heights.yaml").write_text(TABLE)
    stimuli = root / "pipelines/steps/stimuli.py"
    stimuli.write_text(stimuli.read_text(encoding="utf-8") + STEP, encoding="utf-8")
    edit("src/affectlake/judge/agents.py", "\nAgent: TypeAlias = ", KIND)
    edit("src/affectlake/report/figures/analyses.py", "\n_SWEEPS = ", f"{FIGURE}\n_SWEEPS = ")
    catalogue = "src/affectlake/report/figures/catalogue.py"
    edit(catalogue, "analyses import components", "analyses import lengths, components")
    edit(catalogue, "    Entry(accuracy,", '    Entry(lengths, "Lengths", "agent"),\n    Entry(accuracy,')
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-m", "affectlake.generated"], env=env, cwd=root, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (root / "docs/tables.md").read_text(encoding="utf-8").count("## heights") == 1
    return done.stdout.splitlines()


def test_nothing_is_missing() -> None:
    assert omissions(ROOT) == []


@pytest.mark.parametrize(
    ("what", "todo"),
    [
        ("the step measure_heights is not in the catalogue", "add stimuli.measure_heights to pipelines/catalogue.py"),
        ("the table heights has no example rows", "add some to src/affectlake/lake/tables/factory.py"),
        ("no step writes the table heights", "name it in the `writes` of one in pipelines/steps/"),
        ("no step writes the choices of agents of kind random", "add one with kinds=('random',)"),
        (
            "the report has no name for agents of kind random",
            "add one to KINDS in src/affectlake/report/page.py",
        ),
        ("the figure lengths is not described", "add a row to the table in docs/figures.md"),
    ],
)
def test_each_omission_is_named_with_what_to_do(said: list[str], what: str, todo: str) -> None:
    assert f"missing: {what}: {todo}" in said


def test_nothing_else_is_named_and_steps_that_reach_the_change_are_in_one_list(said: list[str]) -> None:
    assert sum(line.startswith("missing: ") for line in said) == 6
    (listed,) = [line for line in said if "their versions did not" in line]
    assert "choose_by_ratings" in listed
