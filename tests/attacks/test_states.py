"""From every state of a lake, every remedy that a message prints leads on, and nothing is lost on the way."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from affectlake.cli import main
from affectlake.flows import build as building
from affectlake.flows import collect as collecting
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.request_limits import Target
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.unrecorded import mark_unrecorded
from affectlake.lake.store.versions import Manifest, list_versions, resolve
from affectlake.pipelines.collection.planning import plan_questions
from affectlake.pipelines.collection.publishing import open_journal, waiting
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.params.study import load
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run, stage_by_stage
from tests.support.fault_server import FaultServer

Set = Callable[[Path], None]


def quiet(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, server: FaultServer) -> Path:
    """A lake with four versions: tables, then 40 answers, then 80, then what they mean."""
    lake = tmp_path_factory.mktemp("states") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar", "servers": [server.url]})
    for _ in range(2):
        collect_answers(lake, CollectionRequest("tiny", limit=40), quiet)
    run(lake)
    assert [version.name for version in list_versions(lake)] == ["v1", "v2", "v3", "v4"]
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy; commands run without starting Prefect and without a report."""
    monkeypatch.setattr(building, "_run_stages", stage_by_stage)
    monkeypatch.setattr(
        collecting, "run_collection", lambda lake, wanted, say, show, _ended: collect_answers(lake, wanted, say, show)
    )
    monkeypatch.setattr(
        "affectlake.pipelines.outputs.latest_report.latest_report", lambda lake, version: lake / version.name
    )
    return shutil.copytree(origin, tmp_path / "lake", symlinks=True)


def git(lake: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=lake, check=True, capture_output=True)


def edit_parameters(lake: Path) -> None:
    """Change a parameter that no stage depends on, so that running is quick."""
    path = lake / "params.yaml"
    text = path.read_text()
    path.write_text(re.sub(r"n_members: \d+", "n_members: 7", text))
    assert path.read_text() != text


def half_edit_parameters(lake: Path) -> None:
    """Leave params.yaml as no YAML."""
    (lake / "params.yaml").write_text((lake / "params.yaml").read_text() + "\nsweeps: [half")


def edit_table(lake: Path) -> None:
    """Change a table by hand."""
    part = lake / layout.TABLES / "ratings/part-00000.parquet"
    part.chmod(0o644)
    part.write_bytes(part.read_bytes() + b"edited")


def check_out_first(lake: Path) -> None:
    """Check out the first version."""
    checkout(lake, resolve(lake, "v1"))


def first_and_edit(lake: Path) -> None:
    """Check out the first version and change its parameters: the reported loop."""
    check_out_first(lake)
    edit_parameters(lake)


def first_and_edit_table(lake: Path) -> None:
    """Check out the first version and change a table by hand."""
    check_out_first(lake)
    edit_table(lake)


def detach(lake: Path) -> None:
    """Leave the branch."""
    git(lake, "checkout", "--quiet", "--detach", "lake/v4")


def detach_at_first(lake: Path) -> None:
    """Leave the branch for an old version's commit, as `git checkout lake/v1` does."""
    git(lake, "checkout", "--quiet", "lake/v1")


def cut_off_run(lake: Path) -> None:
    """Die between putting a table in place and recording it."""
    mark_unrecorded(lake, Output("ratings"))
    edit_table(lake)


def cut_off_run_at_first(lake: Path) -> None:
    """The same, with an older version checked out."""
    check_out_first(lake)
    cut_off_run(lake)


def half_written_lock(lake: Path) -> None:
    """Die while DVC writes dvc.lock."""
    text = (lake / "dvc.lock").read_text()
    (lake / "dvc.lock").write_text(text[: len(text) // 2] + "\n  : [")


def cut_off_checkout(lake: Path) -> None:
    """Die in the middle of a checkout, and edit the parameters afterwards."""
    check_out_first(lake)
    (lake / layout.STAGING / "checkout-of").write_text("v1")
    edit_parameters(lake)


def cut_off_checkout_of_nothing(lake: Path) -> None:
    """Die in the middle of the checkout of a version whose tag is gone."""
    (lake / layout.STAGING / "checkout-of").parent.mkdir(parents=True, exist_ok=True)
    (lake / layout.STAGING / "checkout-of").write_text("v9")


def journal_waiting(lake: Path) -> None:
    """Have answers that are in no version yet."""
    params = load(lake)
    plan = plan_questions(lake, params, "tiny", "main", limit=7)
    with open_journal(lake, params, plan.agent) as journal:
        collect(plan.questions(), journal, Target(plan.agent.servers, plan.agent.model))
    assert sum(count.n for count in waiting(lake, "tiny")) == 7


def journal_waiting_at_first(lake: Path) -> None:
    """The same, with an older version checked out and edited."""
    journal_waiting(lake)
    first_and_edit(lake)


def lost_tables(lake: Path) -> None:
    """Lose the tables and the dvc.lock."""
    shutil.rmtree(lake / layout.TABLES)
    (lake / "dvc.lock").unlink()


STATES: list[Set] = [
    edit_parameters, half_edit_parameters, edit_table, check_out_first, first_and_edit, first_and_edit_table, detach,
    detach_at_first, cut_off_run, cut_off_run_at_first, half_written_lock, cut_off_checkout,
    cut_off_checkout_of_nothing, journal_waiting, journal_waiting_at_first, lost_tables,
]  # fmt: skip
COMMANDS = ("run", "collect tiny --limit 3", "checkout v2", "checkout latest", "publish", "restore")


def words_of(lake: Path, command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command of a message; return what it says if it refuses, else nothing."""
    program, *words = shlex.split(command)
    if program != "affectlake":
        done = subprocess.run([program, *words], cwd=lake, capture_output=True, text=True, check=False)
        return f"{done.stdout}{done.stderr}" if done.returncode else ""
    capsys.readouterr()
    try:
        main.main([words[0], *words[1:], "--lake", str(lake)])
    except SystemExit as ended:
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert ended.code in (0, 1, 2), said.err
        return said.err if ended.code else ""
    return ""


def remedies(said: str) -> list[str]:
    """Return the commands that a message's last part names; those with words to be filled in are left out."""
    _, found, todo = said.partition("to do:")
    assert found, f"a refusal without a remedy: {said}"
    commands = [one for one in re.findall(r"`([^`]+)`", todo) if one.split()[0] in ("affectlake", "git", "dvc")]
    whole = [one for one in commands if not re.search(r"\b[A-Z]{3,}\b|…|\[", one)]
    assert whole, f"a remedy without a command: {said}"
    return whole


def holdings(lake: Path) -> tuple[dict[str, str], int]:
    """Return the commits of the first four versions, and how many answers lie in versions and journals together."""
    commits = {version.name: version.commit for version in list_versions(lake)[:4]}
    latest = Manifest(lake, list_versions(lake)[-1].commit)
    n_published = sum(pq.read_metadata(file.cached).num_rows for file in latest.files(Output("responses", "tiny")))
    return commits, n_published + sum(count.n for count in waiting(lake, "tiny"))


def try_remedy(lake: Path, remedy: str, trail: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a remedy; one that refuses in turn has remedies of its own, and is done for after them."""
    said = words_of(lake, remedy, capsys)
    if said:
        assert len(trail) < 6, f"{' → '.join([*trail, remedy])}: {said}"
        try_remedy(lake, remedies(said)[0], [*trail, remedy], capsys)


def follow(lake: Path, command: str, trail: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command again until it is done, each time after the first remedy that it names."""
    said = words_of(lake, command, capsys)
    if said:
        assert len(trail) < 6, f"{' → '.join(trail)}: {said}"
        remedy = remedies(said)[0]
        try_remedy(lake, remedy, [*trail, command], capsys)
        follow(lake, command, [*trail, command, remedy], capsys)


def pairs() -> Iterator[object]:
    """Every state with every command: a third of them, with each state and command, and the rest if asked."""
    for row, state in enumerate(STATES):
        for column, command in enumerate(COMMANDS):
            rest = (row + column) % 3 or (state is lost_tables and command == "publish")  # rebuilds by `dvc repro`
            marks = [pytest.mark.soak] if rest else []
            yield pytest.param(state, command, id=f"{state.__name__}-{command}", marks=marks)


@pytest.mark.parametrize(("state", "command"), list(pairs()))
def test_every_remedy_leads_on(
    lake: Path, state: Set, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state(lake)
    params = (lake / "params.yaml").read_bytes()
    before = holdings(lake)
    command = f"affectlake {command}"
    said = words_of(lake, command, capsys)
    for number, remedy in enumerate(remedies(said) if said else []):
        copy = shutil.copytree(lake, tmp_path / f"copy-{number}", symlinks=True)
        try_remedy(copy, remedy, [command], capsys)
        follow(copy, command, [command, remedy], capsys)
        assert holdings(copy)[0] == before[0] and holdings(copy)[1] >= before[1]
        kept = [path.read_bytes() for path in (copy / layout.QUARANTINE).rglob("params.yaml")]
        versions = [_committed(copy, version.commit) for version in list_versions(copy)]
        assert params in [(copy / "params.yaml").read_bytes(), *kept, *versions]
    assert holdings(lake)[0] == before[0] and holdings(lake)[1] >= before[1]


def _committed(lake: Path, commit: str) -> bytes:
    return subprocess.run(["git", "show", f"{commit}:params.yaml"], cwd=lake, check=True, capture_output=True).stdout


def test_restore_brings_back_the_latest_and_keeps_everything_else(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_and_edit(lake)
    edit_table(lake)
    edited, table = (
        (lake / "params.yaml").read_bytes(),
        (lake / layout.TABLES / "ratings/part-00000.parquet").read_bytes(),
    )
    assert words_of(lake, "affectlake restore", capsys) == ""
    assert (lake / "params.yaml").read_bytes() == _committed(lake, resolve(lake).commit)
    (aside,) = (lake / layout.QUARANTINE).glob("*-restore")
    assert (aside / "params.yaml").read_bytes() == edited
    assert (aside / layout.TABLES / "ratings/part-00000.parquet").read_bytes() == table
    assert Manifest(lake, "").digests == Manifest(lake, resolve(lake).commit).digests
    assert words_of(lake, "affectlake restore", capsys) == ""
    assert len(list((lake / layout.QUARANTINE).glob("*-restore"))) == 1
    run(lake)
    assert resolve(lake).name == "v4"  # there is nothing to do
