"""Schedules that stop when held-out accuracy no longer rises: from outside, by references, and by their error rate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from affectlake.errors import UsageError
from affectlake.flows.schedules.accuracy_gain import LEVEL, Paired, can_tell, level_of, n_needed, paired, upper_limit
from affectlake.flows.schedules.comparisons import Comparison, Comparisons, stop_of, terms_of
from affectlake.flows.schedules.health import health
from affectlake.flows.schedules.slot_flow import collect_slot
from affectlake.flows.schedules.slots import Slots
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from benchmarks.stopping import GAIN_BELOW, followed, rates, stopped_after
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, run
from tests.support.fault_server import FaultServer
from tests.support.nights import affectlake
from tests.support.receiver import Receiver, receiving

N = 60
SHOWN = re.compile(r"\[Video_\d: stimulus (\d+)\]")
SPOSE = {"dimensions": 10, "batch_size": 64, "max_epochs": 100, "learning_rate": 0.02, "convergence_epochs": 20}
STOP_WHEN = {"gain_below": 0.1, "over": 1}
NIGHT = datetime(2026, 3, 3, 2, tzinfo=UTC)


def respondent(positions: NDArray[np.float64]) -> Callable[[bytes], str]:
    """A respondent for whom the stimulus farthest from the closest two is the odd one out."""

    def answer(body: bytes) -> str:
        shown = positions[[int(one) for one in SHOWN.findall(json.loads(body)["messages"][-1]["content"])]]
        apart = [float(np.square(shown[a] - shown[b]).sum()) for a, b in ((1, 2), (0, 2), (0, 1))]
        return f"Video {int(np.argmin(apart)) + 1} is noticeably different from the other two."

    return answer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def params_of(servers: dict[str, str]) -> dict[str, Any]:
    """Parameters with an agent and a schedule for each server, which may stop."""
    raw: dict[str, Any] = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {name: ENTRY | {"servers": [url], "l1": 0.001} for name, url in servers.items()}
    entry = {"cron": "0 2 * * *", "limit": 600, "then": ["run"], "stop_when": STOP_WHEN}
    raw["schedules"] = {name: {"agent": name} | entry for name in servers}
    return dict(json.loads(json.dumps(raw)))  # without aliases in YAML


def make_lake(lake: Path, servers: dict[str, str], address: str) -> Path:
    """A built lake of 60 stimuli with an agent and a schedule for each server, which may stop."""
    raw = params_of(servers)
    raw["sources"] = {
        "kind": "tables",
        "stimuli": {"file": "stimuli.csv", "id_column": "id"},
        "captions": {"file": "captions.csv", "id_column": "id", "caption_column": "caption"},
    }
    raw["triplets"] |= {"per_dyad": 2, "validation_fraction": 0.3}
    raw["spose"] |= SPOSE
    raw["sweeps"] |= {"dimensions": [], "judgments": []}
    raw["schedules"]["flat"]["limit"] = 1200
    raw["notify"] = {"on": ["stopped"], "to": [address]}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    (lake / "stimuli.csv").write_text("id\n" + "".join(f"s{at}\n" for at in range(N)))
    (lake / "captions.csv").write_text("id,caption\n" + "".join(f"s{at},stimulus {at}\n" for at in range(N)))
    run(lake)
    return lake


def change(lake: Path, schedule: str, **entry: object) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["schedules"][schedule] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def stop(lake: Path, name: str) -> Comparison | None:
    params = load(lake)
    return stop_of(lake, params, params.schedules[name])


def made(lake: Path, name: str) -> list[Comparison]:
    params = load(lake)
    return Comparisons(lake).made(name, terms_of(params, params.schedules[name]))


def backfill(lake: Path, name: str, first: str, last: str) -> Any:
    return affectlake(
        "schedule", "backfill", name, "--from", f"2026-03-{first}", "--to", f"2026-03-{last}", "--lake", lake
    )


@pytest.mark.slow
def test_an_agent_that_has_saturated_stops_and_another_that_learns_continues(
    tmp_path: Path, server: FaultServer, receiver: Receiver
) -> None:
    with FaultServer(models=("tiny-llama",)).running() as other:
        server.says = respondent(np.arange(N)[:, None] % 3 * 3.0 + 0.01 * np.random.default_rng(5).normal(size=(N, 1)))
        other.says = respondent(np.random.default_rng(5).normal(size=(N, 6)))
        urls = {"flat": server.url, "fine": other.url}
        lake = make_lake(tmp_path / tmp_path.name, urls, receiver.url("json", "hook"))
        done = backfill(lake, "fine", "01", "02")
        assert done.returncode == 0, done.stderr
        assert "held-out accuracy is compared later: 1 of 2 versions in which fine has more answers" in done.stderr
        assert "held-out accuracy may still rise; " in done.stderr
        (rising,) = made(lake, "fine")
        assert rising.gain > 0.1
        assert (rising.has_stopped, stop(lake, "fine")) == (False, None)
        assert receiver.told == []
        done = backfill(lake, "flat", "01", "04")
    assert done.returncode == 0, done.stderr
    assert "stopped: held-out accuracy no longer rises; " in done.stderr
    assert "to start again: remove schedules.flat.stop_when or change it" in done.stderr
    assert "flat: the schedule has stopped; 2 later slots are not run" in done.stderr
    assert "flat: 2 slots run, 0 done before" in done.stdout
    (found,) = made(lake, "flat")
    assert found == stop(lake, "flat")
    assert found.n_needed == 0
    assert found.upper < 0.1
    assert found.newer == list_versions(lake)[-1].name
    check_comparison(lake, found)
    (told,) = receiver.told
    assert "done and stopped" in told["title"]
    assert told["type"] == "success"
    assert f"\nstopped: {found}\n" in told["message"]
    assert told["message"].splitlines()[-1].startswith("to start again: ")
    n = read_output(lake, Output("responses", "flat")).collect().height
    flow: Any = collect_slot
    state = flow(str(lake), "flat", NIGHT, return_state=True)  # a later night, as a Prefect worker runs it
    assert (state.name, read_output(lake, Output("responses", "flat")).collect().height) == ("Skipped", n)
    assert state.message.startswith("the schedule has stopped: held-out accuracy no longer rises; ")
    check_shown(lake, found)
    steps = affectlake("steps", "--lake", lake)
    change(lake, "flat", stop_when={"gain_below": 0.05, "over": 1})
    assert stop(lake, "flat") is None  # starts again under other terms
    assert affectlake("steps", "--lake", lake).stdout == steps.stdout  # nothing becomes stale
    assert "to run" not in steps.stdout
    change(lake, "flat", stop_when=None, then=[])
    done = backfill(lake, "flat", "03", "03")
    assert done.returncode == 0, done.stderr
    assert read_output(lake, Output("responses", "flat")).collect().height == 3540
    assert "held-out accuracy" not in done.stderr
    change(lake, "flat", stop_when=STOP_WHEN, then=["run"])
    assert stop(lake, "flat") == found  # the same terms as before
    assert backfill(lake, "flat", "04", "04").returncode == 2


def check_comparison(lake: Path, found: Comparison) -> None:
    """Count the validation choices that each version predicts with queries, from the published tables alone."""
    import affectlake as package

    opened = package.open(lake)
    split = opened.table("triplets").filter(trial_set="main", split="validation").collect()
    asked = set(split.select("i", "j", "k").iter_rows())
    right = {}
    for version in (found.earlier, found.newer):
        weights = opened.embedding("flat", at=version)
        chosen = opened.table("choices", at=version).filter(agent="flat", trial_set="main").collect()
        rows = {(i, j, k): odd for i, j, k, odd in chosen.select("i", "j", "k", "odd").iter_rows()}
        gram = weights @ weights.T
        right[version] = {
            (i, j, k): (i, j, k)[int(np.argmax([gram[j, k], gram[i, k], gram[i, j]]))] == odd
            for (i, j, k), odd in rows.items()
            if (i, j, k) in asked
        }
    earlier, newer = right[found.earlier], right[found.newer]
    assert len(earlier) < len(newer)
    assert (found.n, found.n_gained, found.n_lost) == (
        len(earlier),
        sum(newer[key] and not earlier[key] for key in earlier),
        sum(earlier[key] and not newer[key] for key in earlier),
    )


def check_shown(lake: Path, found: Comparison) -> None:
    """What the commands show of a schedule that has stopped."""
    listed = json.loads(affectlake("schedule", "list", "--json", "--lake", lake).stdout)
    by_name = {row["schedule"]: row for row in listed}
    assert by_name["flat"]["next"] is None
    assert by_name["flat"]["stopped"].startswith(str(found))
    assert by_name["fine"]["stopped"] == ""
    assert by_name["fine"]["next"] is not None
    assert f"flat: flat; stopped: {found}; to start again: " in affectlake("schedule", "list", "--lake", lake).stdout
    assert f"schedule flat stopped: {found}; " in affectlake("status", "--lake", lake).stdout
    rows = json.loads(affectlake("status", "--json", "--lake", lake).stdout)
    stopped = {row["agent"]: row["stopped_schedules"] for row in rows if row["trial_set"] == "main"}
    assert list(stopped["flat"]) == ["flat"]
    assert stopped["fine"] == {}
    params = load(lake)
    assert [one for one in health(lake, params, "flat").reasons if one.schedule == "flat"] == []  # as intended
    assert Slots(lake).latest("flat")[0].state == "skipped"
    done = backfill(lake, "flat", "03", "04")
    assert done.returncode == 2
    assert "the schedule flat has stopped" in done.stderr


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"then": ["report"]}, "schedules.flat cannot stop by itself"),
        ({"then": []}, "found: then: [], trial_set: main"),
        ({"trial_set": "noise_ceiling"}, "trial_set: noise_ceiling"),
        ({"stop_when": {"gain_below": 0}}, "schedules.flat.stop_when.gain_below must be"),
        ({"stop_when": {"gain_below": 1}}, "schedules.flat.stop_when.gain_below must be"),
        ({"stop_when": {"gain_below": "0.1"}}, "schedules.flat.stop_when.gain_below must be a number"),
        ({"stop_when": {"over": 3}}, "gain_below"),
        ({"stop_when": {"gain_below": 0.1, "over": 0}}, "schedules.flat.stop_when.over must be"),
        ({"stop_when": {"gain_bellow": 0.1}}, "did you mean 'gain_below'?"),
        ({"stop_when": 0.1}, "schedules.flat.stop_when must be"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_one_message(
    tmp_path: Path, entry: dict[str, object], words: str
) -> None:
    raw = params_of({"flat": "http://127.0.0.1:9/v1"})
    del raw["schedules"]["flat"]["stop_when"]
    repository.init(tmp_path / "lake", yaml.safe_dump(raw, sort_keys=False))
    assert load(tmp_path / "lake").schedules["flat"].stop_when is None
    change(tmp_path / "lake", "flat", **({"stop_when": STOP_WHEN} | entry))
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "lake")
    assert words in str(caught.value)


def reference(n: int, b: int, c: int, level: float) -> float:
    """The upper limit by the likelihood of the counts, maximised on a grid of 0.001 points by SciPy."""
    from scipy.optimize import brentq, minimize_scalar
    from scipy.stats import norm

    def test(gain: float) -> float:
        def fit(lost: float) -> float:
            return -float(b * np.log(lost + gain) + c * np.log(lost) + (n - b - c) * np.log(1 - 2 * lost - gain))

        bounds = (max(0.0, -gain) + 1e-12, (1 - gain) / 2 - 1e-12)
        lost = minimize_scalar(fit, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return float((b - c - n * gain) / np.sqrt(n * (2 * lost + gain - gain**2)))

    return float(brentq(lambda gain: test(gain) + norm.isf(level), (b - c) / n + 1e-9, 1 - 1e-6))


@pytest.mark.parametrize(
    ("n", "b", "c", "level"),
    [(100, 5, 9, 0.05), (1000, 30, 80, 0.01), (50, 20, 3, 0.05), (400, 10, 10, 0.001), (40, 1, 30, 0.05)],
)
def test_the_limit_is_that_of_the_score_test(n: int, b: int, c: int, level: float) -> None:
    assert upper_limit(Paired(n, b, c), level) == pytest.approx(reference(n, b, c, level), abs=1e-7)


def test_the_limit_agrees_with_published_ones_and_with_mcnemars_test() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    # Bentur et al. 2009 in Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33:2850-2875: -0.517 to -0.026
    assert upper_limit(Paired(21, 1, 7), 0.025) == pytest.approx(-0.026, abs=5e-4)
    assert upper_limit(Paired(21, 7, 1), 0.025) == pytest.approx(0.517, abs=5e-4)
    for b, c in ((3, 10), (30, 45), (0, 5)):
        p = mcnemar([[50, c], [b, 50]], exact=False, correction=False).pvalue / 2
        assert upper_limit(Paired(200, b, c), p) == pytest.approx(0, abs=1e-9)


def test_few_choices_have_wide_limits_and_stop_nothing() -> None:
    assert upper_limit(Paired(5, 5, 0), 0.05) == 1
    z = 1.6448536
    assert upper_limit(Paired(10, 0, 0), 0.05) == pytest.approx(z**2 / (10 + z**2), abs=1e-6)  # 21 points, not 0
    assert not can_tell(Paired(100, 1, 9), 0.01, 0.05)
    assert stopped_after([Paired(10, 0, 2)] * 50, 0.01) is None
    for share in (0.0, 0.05, 0.3):
        n = n_needed(Paired(1000, round(500 * share), round(500 * share)), 0.01, 0.025)
        half = round(n * share / 2)
        assert can_tell(Paired(round(1.1 * n), half, half), 0.01, 0.025)
        assert not can_tell(Paired(n // 2, half // 2, half // 2), 0.01, 0.025)


def test_counts_are_of_the_same_choices() -> None:
    newer, earlier = (np.array(values, bool) for values in ([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]))
    assert paired(newer, earlier) == Paired(5, 2, 1)
    assert paired(newer, earlier).gain == pytest.approx(newer.mean() - earlier.mean())


def test_the_levels_of_all_comparisons_add_up_to_that_of_the_schedule() -> None:
    assert sum(map(level_of, range(1, 100_000))) == pytest.approx(LEVEL, rel=1e-4)
    assert level_of(1) == LEVEL / 2


def test_the_interval_covers_the_planted_gain() -> None:
    rng = np.random.default_rng(3)
    below = [upper_limit(found, LEVEL) < GAIN_BELOW for _ in range(150) for found in followed(rng, 300, GAIN_BELOW, 5)]
    assert np.mean(below) == pytest.approx(LEVEL, abs=0.03)


@pytest.mark.parametrize(("gain", "least", "most"), [(2.0, 0, 0), (1.0, 0, 0.1), (0.0, 0.9, 1)])
def test_schedules_are_stopped_as_often_as_the_documents_say(gain: float, least: float, most: float) -> None:
    """A planted gain of accuracy: repeated comparisons at 95 % each would stop far more."""
    found = rates(np.random.default_rng(4), 500, gain * GAIN_BELOW, 60)
    assert least <= found.by_rule[30] / found.n <= most
    if gain == 1:
        assert found.by_night[30] / found.n > 0.4
