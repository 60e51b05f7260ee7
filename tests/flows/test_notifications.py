"""Notifications of runs of schedules, through Apprise to a real HTTP server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from affectlake.errors import UsageError
from affectlake.flows.schedules.notifications import SlotReport, send
from affectlake.flows.schedules.parsed_shares import LEVEL, Parsed, fewer_parsed
from affectlake.flows.schedules.slots import SlotCounts, Slots
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.params.notify import Notify
from affectlake.pipelines.params.study import load
from affectlake.secrets import HIDDEN
from affectlake.validation import check
from benchmarks.nights import reported
from tests.support.fault_server import FaultServer, expected_text
from tests.support.nights import affectlake, backfill, nightly_lake
from tests.support.receiver import Receiver, receiving
from tests.support.stores import free_port

SECRET = "s3cret-path"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


ALL = ["done", "failed", "fewer_parsed"]


def lines(told: dict[str, Any]) -> dict[str, str]:
    """The facts of a notification, by name."""
    return dict(line.partition(": ")[::2] for line in told["message"].splitlines())


def test_each_night_is_told_with_its_numbers(tmp_path: Path, server: FaultServer, receiver: Receiver) -> None:
    lake = nightly_lake(tmp_path / tmp_path.name, server.url, {"on": ALL, "to": ["env:NIGHTS"]}, then=["report"])
    address = lake / "storage/collecting/notify.env"
    address.parent.mkdir(exist_ok=True)
    address.write_text(f"# not in Git\nNIGHTS={receiver.url('json', SECRET)}\n")
    server.says = lambda asked: f"{expected_text(asked)} is noticeably different from the other two."
    receiver.script = [500]  # it is tried again
    done = backfill(lake, "01")
    assert done.returncode == 0, done.stderr
    assert "env:NIGHTS was notified" in done.stderr
    (told,) = receiver.told
    assert told["title"].startswith("affectlake: nightly (tiny) 2026-03-01 02:00 UTC done on ")
    assert told["type"] == "success"
    facts = lines(told)
    counts = {name: facts[name] for name in ("asked", "answered", "parsed", "refused", "failed")}
    assert counts == {"asked": "60", "answered": "60", "parsed": "60", "refused": "0", "failed": "0"}
    assert Path(facts["report"].removeprefix("done").strip() or facts["report"]).name.endswith(".html")
    assert (facts["lake"], facts["version"]) == (str(lake), "v2")
    slots, first = Slots(lake), datetime(2026, 3, 1, 2, tzinfo=UTC)
    for day in range(1, 5):  # four more such nights, as they would be recorded
        slots.record_counts("nightly", first + timedelta(days=day), SlotCounts(60, 60, 60, 0, 0, "v2"))
    server.says = lambda _asked: "I cannot help with that request."
    receiver.told.clear()
    done = backfill(lake, "06")
    assert "warning: fewer answers were parsed than usual: 0.0% parsed, 100.0% in the last 5 runs" in done.stderr
    (told,) = receiver.told
    assert "done and fewer parsed" in told["title"]
    assert told["type"] == "warning"
    assert lines(told)["fewer parsed"].startswith("0.0% parsed")
    assert lines(told)["parsed"] == "0"
    assert int(lines(told)["refused"]) > 0
    server.script.extend(["400"] * 20)
    receiver.told.clear()
    done = backfill(lake, "07")
    assert done.returncode == 1
    (told,) = receiver.told
    assert "failed" in told["title"] and told["type"] == "failure"
    assert "the servers fail too often" in lines(told)["error"]
    assert int(lines(told)["failed"]) > 0
    assert SECRET not in done.stderr + json.dumps(receiver.told)


def test_a_failed_night_is_told_with_what_it_has(tmp_path: Path, server: FaultServer, receiver: Receiver) -> None:
    notify = {"on": ["failed"], "to": [receiver.url("json", SECRET)]}
    lake = nightly_lake(tmp_path / tmp_path.name, server.url, notify, limit=None)
    says = "is noticeably different from the other two."
    server.says = lambda asked: f"{expected_text(asked)} {says}" if sum(asked) % 6 else "I cannot help with that."
    server.script.extend([*["ok"] * 60, *["402"] * 375])  # the account is empty after these
    assert backfill(lake, "01").returncode == 1
    (told,) = receiver.told
    facts, rows = lines(told), read_output(lake, Output("responses", "tiny")).collect()
    n_answered = rows.filter(pl.col("error_kind").is_null()).height
    assert n_answered >= 50
    counts = {name: int(facts[name]) for name in ("asked", "answered", "parsed", "refused", "failed")}
    assert (counts["answered"], counts["failed"]) == (n_answered, rows.height - n_answered)
    assert counts["asked"] == rows.height
    assert 0 < counts["parsed"] < n_answered
    assert counts["refused"] == n_answered - counts["parsed"]
    assert facts["version"] == list_versions(lake)[-1].name
    again = facts["to do"].split("`")[1]
    server.script.clear()
    done = affectlake(*again.split()[1:])  # what the message says to do
    assert done.returncode == 0, done.stderr
    assert "1 slots run" in done.stdout
    counted = Slots(lake).counts("nightly", NIGHT)
    assert counted is not None
    assert counted.n_answered == 435 - rows.height
    assert Slots(lake).unfinished_counts("nightly", NIGHT) is None


def test_a_night_that_fails_before_it_asks_has_no_counts(tmp_path: Path, receiver: Receiver) -> None:
    lake = nightly_lake(
        tmp_path / tmp_path.name, f"http://127.0.0.1:{free_port()}/v1", {"to": [receiver.url("json", "hook")]}
    )
    assert backfill(lake, "01").returncode == 1
    (told,) = receiver.told
    assert "asked" not in lines(told)
    assert "affectlake schedule backfill nightly --from 2026-03-01T02:00Z" in lines(told)["to do"]


NIGHT = datetime(2026, 3, 1, 2, tzinfo=UTC)


def told_of(lake: Path, *events: Any, note: str = "") -> tuple[int, list[str]]:
    log: list[str] = []
    return send(SlotReport(str(lake), "nightly", "tiny", NIGHT, events, note=note), ["k3y"], log.append, 0.01), log


def test_only_chosen_events_are_told_and_secrets_are_not(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("notify: {on: [failed], to: ['env:NIGHTS', 'env:OTHER']}\n")
    monkeypatch.setenv("NIGHTS", receiver.url("json", SECRET))
    monkeypatch.setenv("OTHER", f"json://127.0.0.1:{free_port()}/{SECRET}")
    assert told_of(tmp_path, "done", "fewer_parsed") == (0, [])
    n, log = told_of(tmp_path, "failed", note=f"error: k3y and {receiver.url('json', SECRET)}")
    assert n == 1
    assert log[0] == "env:NIGHTS was notified"
    assert log[1].startswith("env:OTHER could not be notified: ")
    assert receiver.told[0]["message"].splitlines()[-1] == f"error: {HIDDEN} and {HIDDEN}"
    assert SECRET not in "".join(log)
    monkeypatch.delenv("OTHER")
    _, log = told_of(tmp_path, "failed")
    assert "OTHER is not set" in log[1]
    monkeypatch.setenv("OTHER", "nonsense")
    assert "not one that Apprise knows" in told_of(tmp_path, "failed")[1][1]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"to": ["json://me:s3cret-path@host/x"]}, "notify.to[0] contains a secret"),
        ({"to": ["json://host/x?token=s3cret-path"]}, "contains a secret"),
        ({"to": ["slack://s3cret-path/B/C"]}, "needs a secret (slack://…)"),
        ({"to": ["s3cret-path"]}, "is not an address"),
        ({"to": []}, "notify.to must be"),
        ({"on": ["done"]}, "exactly one of webhook, webhook_env, to"),
        ({"to": ["env:A"], "webhook_env": "B"}, "exactly one of"),
        ({"to": ["env:A"], "on": ["dnoe"]}, "did you mean 'done'?"),
        ({"to": ["env:A"], "on": []}, "notify.on must be"),
    ],
)
def test_an_address_with_a_secret_is_refused_with_where_to_put_it(section: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(Notify, section, "", "notify")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    if "secret" in words:
        assert "storage/collecting/notify.env, which Git ignores" in str(caught.value)


def test_earlier_settings_and_plain_addresses_stay_legal(published: Path) -> None:
    for section in ({"webhook": "https://x.org/h"}, {"webhook_env": "HOOK"}):
        assert check(Notify, section).to == ()
    found = check(Notify, {"to": ["json://127.0.0.1:8080/hook", "ntfy://emotions", "env:SLACK"]})
    assert found.on == ("failed", "fewer_parsed", "stopped")


def night(share: float, n: int = 1000) -> Parsed:
    return Parsed(round(share * n), n)


def test_a_share_is_compared_with_the_last_five_runs() -> None:
    usual = [night(share) for share in (0.95, 0.96, 0.94, 0.95, 0.95)]
    found = fewer_parsed(night(0.85), usual)
    assert found is not None
    assert (found.share, found.usual) == pytest.approx((0.85, 0.95))
    assert 0.85 < found.limit < 0.94
    assert fewer_parsed(night(0.85), usual[:4]) is None  # four runs are too few
    assert fewer_parsed(night(0.5, 10), usual) is None
    assert fewer_parsed(night(0.85), [night(0.1, 10), *usual]) == found  # a run of ten answers is left out
    assert fewer_parsed(night(0.98), usual) is None
    assert fewer_parsed(Parsed(99_500, 100_000), [Parsed(100_000, 100_000)] * 5) is None  # half a point is little
    uneven = [night(share) for share in (0.95, 0.8, 0.99, 0.85, 0.9)]
    assert fewer_parsed(night(0.85), uneven) is None  # nights that vary more


def test_the_limit_is_the_prediction_limit_of_students_t() -> None:
    """An independent formula: for equal, very large numbers of answers, it is that of normal observations."""
    from statsmodels.stats.weightstats import DescrStatsW

    shares = np.array([0.91, 0.93, 0.9, 0.92, 0.94])
    values = np.arcsin(np.sqrt(shares))
    mean = DescrStatsW(values)
    low, _ = mean.tconfint_mean(alpha=2 * LEVEL)
    wanted = values.mean() - (values.mean() - low) * np.sqrt(6)  # of one more observation, not of the mean
    found = fewer_parsed(night(0.5, 10**8), [night(share, 10**8) for share in shares])
    assert found is not None
    assert found.limit == pytest.approx(np.sin(wanted) ** 2, abs=1e-5)


@pytest.mark.parametrize(("mean", "spread", "most"), [(0.9, 0.0, 0.01), (0.9, 0.03, 0.02), (0.97, 0.01, 0.025)])
def test_false_alarms_are_as_rare_as_the_documents_say(mean: float, spread: float, most: float) -> None:
    rng = np.random.default_rng(1)
    assert reported(rng, mean, spread, 1000, 0.0, 1000) <= most
    assert reported(rng, mean, spread, 1000, 0.0, 1000, uneven=True) <= most


def test_a_drop_of_ten_points_is_noticed() -> None:
    assert reported(np.random.default_rng(2), 0.9, 0.01, 1000, 0.1, 500) > 0.85


def test_the_settings_are_read_from_a_lake(tmp_path: Path) -> None:
    lake = nightly_lake(tmp_path / "lake", "http://127.0.0.1:9/v1", {"to": ["env:X"]})
    found = load(lake).notify
    assert found is not None
    assert found.to == ("env:X",)
