"""What people are offered: trials that are open, stimuli that can be shown, and entries that make sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.errors import SourceError, UsageError
from affectlake.experiment.offer import Offer, is_canonical
from affectlake.judge.judgments.options import ReadingOptions
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.importing import import_files, read_files
from affectlake.pipelines.experiment import keys, publishing
from affectlake.pipelines.experiment.beside import Beside
from affectlake.pipelines.experiment.dry_run import RECORDED
from affectlake.pipelines.experiment.entry import experiment_agent, store_path
from affectlake.pipelines.experiment.media import media_of
from affectlake.pipelines.experiment.offering import Offered, offer_of
from affectlake.pipelines.experiment.publishing import publish_received
from affectlake.pipelines.experiment.received import opened
from affectlake.pipelines.experiment.status import status_of
from affectlake.pipelines.params.study import load, parse
from tests.support.experiments import AGENT, STARTED, answer, experiment_lake, ids_of, raw_params, trials_of


def quiet(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "record_wave", lambda *_given: None)


def offered(lake: Path) -> Offered:
    return offer_of(lake, load(lake), AGENT)


def test_the_main_set_is_offered_with_practice_and_catch_trials_of_the_ratings(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake")
    found = offered(lake)
    assert np.array_equal(found.offer.trials, trials_of(lake)) and is_canonical(found.offer.trials)
    assert set(found.offer.wanted) == {1} and not found.offer.answered.any()
    easy = read_output(lake, Output("easy_trials")).collect()
    best = easy.sort("margin", descending=True).head(2)
    assert sorted(map(tuple, np.sort(found.offer.practice, axis=1))) == sorted(best.select("i", "j", "k").rows())
    assert len(found.offer.catch) == easy.height - 2
    odd = {row[:3]: row[3] for row in easy.select("i", "j", "k", "odd").rows()}
    for trial in [*found.offer.practice, *found.offer.catch]:
        assert odd[tuple(sorted(map(int, trial)))] == trial[2], "the odd one is last"
    captions = (
        read_output(lake, Output("captions")).filter(pl.col("caption_index") == 0).sort("stimulus_index").collect()
    )
    assert list(found.contents.captions) == captions["caption"].to_list()
    assert found.contents.stimulus_ids == tuple(ids_of(lake))
    assert (found.settings.agent, found.settings.per_participant, found.settings.catch_every) == (AGENT, 12, 5)


def test_the_noise_ceiling_wants_several_answers_of_each_trial(tmp_path: Path) -> None:
    found = offered(experiment_lake(tmp_path / "lake", {"trials": "noise_ceiling"}))
    assert len(found.offer.trials) == 10 and set(found.offer.wanted) == {4}


def test_answers_of_files_are_counted_and_those_of_the_store_are_left_to_it(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake")
    trials, ids = trials_of(lake), ids_of(lake)
    answer(lake, "anna", trials[:3])
    publish_received(lake, load(lake), AGENT, quiet)
    assert not offered(lake).offer.answered.any(), "the session store has these"
    text = "\n".join(",".join(["p", *(ids[one] for one in row), ids[row[0]]]) for row in trials[5:7])
    file = tmp_path / "others.csv"
    file.write_text("participant,a,b,c,odd\n" + text + "\n")
    columns = {"participant": "participant", "first": "a", "second": "b", "third": "c", "odd": "odd"}
    read = read_files(lake, load(lake), AGENT, [file], ReadingOptions(layout="table", columns=columns))
    import_files(lake, read, quiet)
    found = offered(lake).offer
    assert np.flatnonzero(found.answered).tolist() == [5, 6]
    store_path(lake, AGENT).unlink()
    assert np.flatnonzero(offered(lake).offer.answered).tolist() == [0, 1, 2, 5, 6], "published, and not in a store"


def test_named_catch_trials_and_an_unknown_id(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake")
    a, b, c, d = ids_of(lake)[:4]

    def named(last: str) -> None:
        entry = {"practice": 1, "catch": [[a, b, c], [b, c, last]]}
        (lake / "params.yaml").write_text(yaml.safe_dump(raw_params(entry), sort_keys=False))

    named(d)
    found = offered(lake).offer
    assert found.practice.tolist() == [[0, 1, 2]] and found.catch.tolist() == [[1, 2, 3]]
    named(f"{d}x")
    with pytest.raises(UsageError) as error:
        offered(lake)
    assert f"agents.{AGENT}.catch names a stimulus that the study does not have" in str(error.value)
    assert repr(f"{d}x") in str(error.value) and f"did you mean {d!r}?" in str(error.value)


def test_stimuli_without_captions_make_their_trials_unaskable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = experiment_lake(tmp_path / "lake")
    from affectlake.pipelines.experiment import offering

    def without(root: Path, output: Output) -> pl.LazyFrame:
        table = read_output(root, output)
        return table.filter(pl.col("stimulus_index") != 3) if output.table == "captions" else table

    monkeypatch.setattr(offering, "read_output", without)
    found = offered(lake)
    n = int((trials_of(lake) == 3).any(axis=1).sum())
    assert n > 0 and (found.n_unaskable, found.reasons) == (n, {"no caption": 1})
    assert not (found.offer.trials == 3).any() and not (found.offer.catch == 3).any()
    assert len(found.offer.trials) + n == found.n_planned


def test_clips_are_files_with_the_recorded_hash(tmp_path: Path) -> None:
    pytest.importorskip("av")
    raw = raw_params({"show": "videos"}, ("sources.clips=true",))
    params = parse(yaml.safe_dump(raw, sort_keys=False))
    agent = experiment_agent(params, AGENT)
    ids = [f"synthetic-{at:04d}" for at in range(30)]
    from hashlib import sha256

    from affectlake.pipelines.experiment import media

    folder = media._rendered(tmp_path, params, agent, ids[:30], 30)
    files = [folder / f"{one}.mp4" for one in ids]
    rows: dict[str, Any] = {
        "stimulus_index": list(range(30)),
        "video_path": [path.name for path in files],
        "video_sha256": [sha256(path.read_bytes()).hexdigest() for path in files],
    }
    rows["video_path"][4] = None
    rows["video_path"][5] = "gone.mp4"
    rows["video_path"][6] = "clip.avi"
    found = media_of(tmp_path, params, agent, ids, pl.DataFrame(rows))
    assert found.reasons == {"no file": 1, "the file is missing": 1, "files .avi are not videos that browsers show": 1}
    assert [at for at, one in enumerate(found.files) if one is None] == [4, 5, 6]
    one = found.files[0]
    assert one is not None and one.type == "video/mp4" and one.size == files[0].stat().st_size
    assert one.sha256 == rows["video_sha256"][0]
    files[0].write_bytes(b"another file")
    with pytest.raises(SourceError, match="are not those that were read"):
        media_of(tmp_path, params, agent, ids, pl.DataFrame(rows))


def test_a_study_without_media_says_so(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake", {"show": "videos"})
    with pytest.raises(SourceError) as error:
        offered(lake)
    assert "the study has no videos to show" in str(error.value) and "sources.clips: true" in str(error.value)


def test_proposals_are_read_anew_without_a_restart(tmp_path: Path) -> None:
    """The step that serves beside it: propose runs in another process, and the server's next look finds the round."""
    lake = experiment_lake(tmp_path / "lake", {"trials": "propose", "propose_every": 5, "per_participant": 8})
    with pytest.raises(UsageError, match="no trials are proposed for people"):
        offered(lake)
    from affectlake.pipelines.collection.proposals import propose

    first = propose(lake, load(lake), AGENT, 20, quiet)
    assert (first.round, first.n_judgments) == (0, 0)
    before = offered(lake).offer.trials
    assert len(before) == 20
    said: list[list[str]] = []
    beside = Beside(lake, load(lake), experiment_agent(load(lake), AGENT), quiet)

    def run(arguments: list[str]) -> int:
        said.append(arguments)
        return Beside._in_process(beside, arguments)

    beside._run = run
    assert beside.renew(0) is None and not said
    answer(lake, "anna", before[:6])
    renewed = beside.renew(6)
    assert [one[:3] for one in said] == [["experiment", "publish", AGENT], ["propose", AGENT, "--n"]]
    assert isinstance(renewed, Offer)
    rows = {tuple(one) for one in renewed.trials.tolist()}
    assert len(rows) == 8 and not rows & {tuple(map(int, one)) for one in before[:6]}, "answered trials are not open"
    assert beside.renew(7) is None and len(said) == 2


def test_publishing_is_due_by_number_or_by_time(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake", {"publish_every": {"answers": 4, "hours": 2}})
    said: list[list[str]] = []
    now = [0.0]
    agent = experiment_agent(load(lake), AGENT)

    def run(arguments: list[str]) -> int:
        said.append(arguments)
        publish_received(lake, load(lake), AGENT, quiet)
        return 0

    beside = Beside(lake, load(lake), agent, quiet, run, lambda: now[0])
    trials = trials_of(lake)
    answer(lake, "anna", trials[:3])
    beside.renew(3)
    assert not said
    now[0] = 7200.0
    beside.renew(3)
    assert len(said) == 1
    answer(lake, "bert", trials[3:7])
    beside.renew(7)
    assert len(said) == 2
    beside.renew(7)
    assert len(said) == 2
    beside._run = lambda _arguments: 1
    answer(lake, "cleo", trials[7:11])
    now[0] += 60
    beside.renew(11)
    beside._run = run
    beside.renew(11)
    assert len(said) == 2, "after a failure there is a pause"
    now[0] += 61
    beside.renew(11)
    assert len(said) == 3


def test_status_counts(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake")
    trials = trials_of(lake)
    answer(lake, "anna", trials[:4], positions=[1, None, 1, 2], kinds=["trial", "trial", "catch", "catch"],
           right=[None, None, int(trials[2, 0]), int(trials[3, 0])])  # fmt: skip
    answer(lake, "bert", trials[4:6], state="running", positions=[1, None], reason="media_failed")
    answer(lake, "cleo", trials[6:7], state="left")
    answer(lake, "dora", trials[7:7], state="consent")
    answer(lake, "emil", trials[8:9], state="withdrawn")
    found = status_of(lake, load(lake), AGENT, STARTED)
    assert (found.n_participants, found.n_complete, found.n_running, found.n_dropped) == (5, 1, 1, 1)
    assert (found.n_no_consent, found.n_withdrawn) == (1, 1)
    assert (found.n_answers, found.n_catch, found.n_catch_failed) == (3, 2, 1)
    assert found.unanswered == {"media_failed": 1, "timed_out": 1}
    assert (found.n_unpublished, found.n_wanted - found.n_left) == (7, 3)
    assert found.per_minute == pytest.approx(0.3)
    later = status_of(lake, load(lake), AGENT, STARTED.replace(day=4))
    assert (later.n_running, later.n_dropped, later.per_minute) == (0, 2, 0.0)


def test_what_is_printed_for_the_consent_text_is_what_the_store_has(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake")
    answer(lake, "anna", trials_of(lake)[:1])
    about_no_person = {"meta", "stimuli", "sqlite_sequence"}
    with opened(store_path(lake, AGENT)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {table: {row[1] for row in database.execute(f"PRAGMA table_info({table})")} for table in tables}
    assert {name: set(one) for name, one in RECORDED.items()} == {
        name: found for name, found in columns.items() if name not in about_no_person
    }


def test_the_key_of_participants_is_made_once_and_only_its_owner_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keys.participant_key(tmp_path, AGENT)
    path = tmp_path / "storage/collecting" / AGENT / keys.FILE
    assert keys.participant_key(tmp_path, AGENT) == first and len(first) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(keys.VARIABLE, "short")
    with pytest.raises(UsageError, match="too short to be a key"):
        keys.participant_key(tmp_path, AGENT)
    monkeypatch.setenv(keys.VARIABLE, "a key of the environment")
    assert keys.participant_key(tmp_path, AGENT) == b"a key of the environment"


WRONG = {
    "an unknown set": (
        {"trials": "mian"},
        "agents.people.trials must be one of main, validation, noise_ceiling, propose",
    ),
    "a path that leads out": ({"consent": "../consent.md"}, "agents.people.consent is not a path within the lake"),
    "an absolute path": ({"texts": "/etc"}, "agents.people.texts is not a path within the lake"),
    "a script": ({"return_url": "javascript:alert(1)"}, "agents.people.return_url is not the address of a website"),
    "a language": ({"languages": ["fr"]}, "agents.people.languages has languages without texts"),
    "no language": ({"languages": []}, "agents.people.languages"),
    "proposing": ({"propose_every": 100}, "agents.people.propose_every proposes trials that are not given"),
    "two stimuli": ({"practice": 0, "catch": [["a", "b", "a"]]}, "has a trial that names a stimulus twice"),
    "too few": ({"catch": [["a", "b", "c"]]}, "agents.people.catch has too few trials"),
    "a key": ({"per_person": 10}, "agents.people.per_person is not a known key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_entries_are_one_clear_message(name: str) -> None:
    entry, words = WRONG[name]
    with pytest.raises(UsageError) as error:
        parse(yaml.safe_dump(raw_params(entry), sort_keys=False))
    assert words in str(error.value)


def test_sections_that_an_entry_needs_are_named() -> None:
    raw = raw_params()
    del raw["easy_trials"]
    with pytest.raises(UsageError, match=r"agents.people.catch needs the section easy_trials"):
        parse(yaml.safe_dump(raw, sort_keys=False))
    raw["agents"][AGENT] |= {"practice": 0, "catch_every": None}
    assert not experiment_agent(parse(yaml.safe_dump(raw, sort_keys=False)), AGENT).needs_easy_trials
    raw = raw_params({"trials": "noise_ceiling"}, ("triplets.noise_ceiling=0",))
    with pytest.raises(UsageError, match=r"agents.people.trials has no trials to give: triplets.noise_ceiling is 0"):
        parse(yaml.safe_dump(raw, sort_keys=False))


def test_an_agent_of_another_kind_is_named() -> None:
    params = parse(yaml.safe_dump(raw_params(), sort_keys=False))
    with pytest.raises(UsageError) as error:
        experiment_agent(params, "human-category")
    assert "found: an agent of kind ratings" in str(error.value) and "allowed: people" in str(error.value)
    with pytest.raises(UsageError, match="did you mean 'people'"):
        experiment_agent(params, "peple")


def test_the_task_is_exported_and_what_comes_back_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists have the open trials alone; rows as the page hands them over are read as answers of the agent."""
    import json

    from affectlake.errors import SourceError as Missing
    from affectlake.pipelines.experiment.serving import export_site

    lake = experiment_lake(tmp_path / "lake")
    trials, ids = trials_of(lake), ids_of(lake)
    answer(lake, "anna", trials[:6])
    try:
        n = export_site(lake, load(lake), AGENT, tmp_path / "site", 3, quiet)
    except Missing as error:
        pytest.skip(f"jsPsych is not available: {error.summary}")
    assert n == 3 and (tmp_path / "site/index.html").is_file()
    lists = [json.loads((tmp_path / f"site/lists/list_{at}.json").read_text()) for at in (1, 2, 3)]
    asked = [one for found in lists for one in found["trials"]]
    index = {one: at for at, one in enumerate(ids)}
    given = set()
    rows = []
    for number, trial in enumerate(asked):
        shown = [one.get("id") or ids[int(one["id_key"])] for one in trial["stimuli"]]
        key = tuple(sorted(index[one] for one in shown))
        if trial["kind"] == "trial":
            assert key not in given, "no open trial is in two lists"
            given.add(key)
            rows.append({
                "trial_type": "odd-one-out", "trial_index": number, "participant": "bert", "session": "1",
                "stimuli": shown, "response": shown[1], "rt": 1500, "catch": False, "right_answer": None,
            })  # fmt: skip
    assert not given & {tuple(map(int, one)) for one in trials[:6]}
    rows[0] |= {"response": None, "reason": "timed_out"}
    file = tmp_path / "bert.json"
    file.write_text(json.dumps(rows))
    read = read_files(lake, load(lake), AGENT, [file], ReadingOptions())
    assert read.rows.height == len(rows) - 1 and read.files[0].layout == "jspsych"
    import_files(lake, read, quiet)
    publish_received(lake, load(lake), AGENT, quiet)
    found = offered(lake).offer
    assert int(found.answered.sum()) == len(rows) - 1, "what came back is not asked again"
