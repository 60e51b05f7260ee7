"""Random histories of building, collecting, publishing, checking out and losing: every version stays exact."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from affectlake.errors import LakeError
from affectlake.lake import garbage, repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.tables import appending, factory, writing

COLLECTED = Output("captions", "model")
TINY = factory.tiny_lake(12)


@pytest.fixture(scope="module", autouse=True)
def origin(tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = tmp_path_factory.mktemp("histories") / "lake"
    repository.init(lake, "study: tiny\n")
    outs = [{f"{layout.TABLES}/stimuli": {"persist": True}}]
    (lake / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"made": {"cmd": "affectlake step made --step-version 1", "outs": outs}}})
    )
    Histories.origin = lake


def working(lake: Path) -> dict[str, bytes]:
    """Return what a checkout must bring back: tables, pointers, manifest and parameters."""
    files = [*(lake / layout.TABLES).rglob("*.parquet"), *(lake / layout.COLLECTED).rglob("*.dvc")]
    files += [path for name in ("dvc.lock", "params.yaml") if (path := lake / name).exists()]
    return {str(path.relative_to(lake)): path.read_bytes() for path in files}


class Histories(RuleBasedStateMachine):
    """A lake beside a plain dictionary of what was published."""

    origin: Path

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.lake = shutil.copytree(self.origin, self.folder / "lake", symlinks=True)
        self.published: dict[str, dict[str, bytes]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(n_stimuli=st.integers(4, 9), publish=st.booleans())
    def build(self, n_stimuli: int, publish: bool) -> None:
        self._recover()
        stimuli = factory.tiny_lake(n_stimuli)["stimuli"]
        writing.write_outputs(self.lake, "made", {Output("stimuli"): stimuli}, {})
        record_done(self.lake, "made")
        if publish:
            self._publish()

    @rule(n_rows=st.integers(0, 3), publish=st.booleans())
    def collect(self, n_rows: int, publish: bool) -> None:
        self._recover()
        parts = sorted((self.lake / COLLECTED.folder).glob("*.parquet"))
        n_before = pl.scan_parquet(parts).select(pl.len()).collect().item() if parts else 0
        with self._refused_when_behind():
            appending.append(self.lake, COLLECTED, TINY["captions"][n_before : n_before + n_rows], self._others())
        if publish:
            self._publish()

    @rule(text=st.sampled_from(["study: tiny\n", "study: tiny\nseed: 1\n"]))
    def set_parameters(self, text: str) -> None:
        (self.lake / "params.yaml").write_text(text)

    @rule()
    def publish(self) -> None:
        self._recover()
        self._publish()

    def _publish(self) -> None:
        with self._refused_when_behind():
            made = repository.publish(self.lake)
            if made is not None:
                self.published[made.name] = working(self.lake)

    @contextlib.contextmanager
    def _refused_when_behind(self) -> Iterator[None]:
        """Expect a refusal where the folder lacks collected parts of the latest version, and only there."""
        latest = list(self.published.values())[-1] if self.published else {}
        folder = f"{COLLECTED.folder}/"
        lost = {name for name in latest if name.startswith(folder)} - set(working(self.lake))
        try:
            yield
        except LakeError as error:
            assert "the folder lacks rows" in str(error)
            assert lost

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def check_out(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.published)))
        self._recover()
        before = working(self.lake)
        try:
            checkout(self.lake, resolve(self.lake, name))
        except LakeError as error:
            assert "unpublished work" in str(error)
            assert working(self.lake) == before
            assert before not in self.published.values()
        else:
            assert working(self.lake) == self.published[name]
            assert before in self.published.values()

    @rule(output=st.sampled_from([Output("stimuli"), COLLECTED]))
    def lose_a_table(self, output: Output) -> None:
        shutil.rmtree(self.lake / output.folder, ignore_errors=True)

    @rule()
    def collect_garbage(self) -> None:
        garbage.remove(garbage.unreferred(self.lake, now_s=4e9))

    @invariant()
    def every_version_is_whole(self) -> None:
        found = list_versions(self.lake)
        assert [version.name for version in found] == list(self.published)
        if found:
            assert check(self.lake, found[-1], repair=False) == []

    def _recover(self) -> None:
        recover(self.lake, lambda _line: None)

    def _others(self) -> dict[str, pl.LazyFrame]:
        return {"stimuli": TINY["stimuli"].lazy()}


Histories.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = pytest.mark.slow(Histories.TestCase)
