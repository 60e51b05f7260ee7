"""Judgments that people gave, from files to choices, embedding and comparisons, from the command line."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.judge.judgments.options import ReadingOptions
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import open_lake
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output, write_outputs
from affectlake.pipelines.collection.importing import new_rows, read_files
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps.judgments import choose_by_judgments
from affectlake.pipelines.stored import as_responses
from tests.support.builds import built_once, copy_of
from tests.support.chat_lakes import SETTINGS, build_steps, run
from tests.support.judgment_files import WRITERS, People, simulate, table, things

RULES = {"faster_than_ms": 600, "failed_catch": 0.2, "fewer_than": 20}
ANSWER = ["i", "j", "k", "odd"]


def affectlake(*arguments: str | Path, ok: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def make(lake: Path) -> None:
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    people = {"kind": "judgments", "l1": "auto"}
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "people": people}
    raw["sweeps"] |= {"dimensions": [], "judgments": []}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    said: list[str] = []
    run(lake, said.append)
    waiting = "people has no answers yet and is not fitted: import judgments with `affectlake import people FILE...`"
    assert waiting in said


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of 30 stimuli in which the judgments of people are awaited."""
    return copy_of(built_once("judgments", make), tmp_path / "lake")


def ids_of(lake: Path) -> list[str]:
    frame = read_output(lake, Output("stimuli")).sort("stimulus_index").collect()
    return frame["stimulus_id"].to_list()


@pytest.fixture
def people(lake: Path) -> People:
    return simulate(ids_of(lake), 900, 6, repeats=60)


def of(lake: Path, name: str) -> pl.DataFrame:
    return read_output(lake, Output(name, "people")).collect()


def imported(lake: Path, *arguments: str | Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(affectlake("import", "people", *arguments, "--lake", lake, "--json").stdout)
    return found


def exclude(lake: Path, **rules: float) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["people"]["exclude"] = rules
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def answers(people: People) -> list[list[int]]:
    return sorted([*sorted(t), int(o)] for t, o in zip(people.shown.tolist(), people.odd_index, strict=True))


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_choices(name: str, lake: Path, people: People, tmp_path: Path) -> None:
    path = WRITERS[name](people, tmp_path / name)
    dry = affectlake("import", "people", path, "--lake", lake, "--dry-run").stdout
    assert f"{len(people):,} judgments would be added" in dry
    assert [one.name for one in list_versions(lake)] == ["v1"]
    assert imported(lake, path)["new"] == len(people)
    build_steps(lake, "choose_by_judgments")
    choices = of(lake, "choices")
    assert sorted(map(list, choices.select(ANSWER).rows())) == answers(people)
    counts = choices.group_by("i", "j", "k").agg(pl.col("repeat").sort())
    assert counts["repeat"].to_list() == [list(range(len(one))) for one in counts["repeat"]]
    effects = of(lake, "order_effects")
    if name == "things.txt":  # the file does not have the order shown
        assert effects.is_empty()
        assert of(lake, "responses")["shown_1"].null_count() == len(people)
    else:
        words = ["first", "second", "third"]
        chosen = {f"chosen_{word}": float((people.odd == at).mean()) for at, word in enumerate(words)}
        shares = dict(effects.select("measure", "value").rows())
        assert {key: shares[key] for key in chosen} == pytest.approx(chosen)


def test_people_and_ratings_are_compared_by_a_run(lake: Path, tmp_path: Path) -> None:
    main = read_output(lake, Output("triplets")).filter(pl.col("trial_set") != "noise_ceiling").collect()
    shown = main.select("i", "j", "k").to_numpy().astype(np.int32)
    others = simulate(ids_of(lake), 100, 6, seed=1)
    rated = read_output(lake, Output("choices", "human-category")).filter(pl.col("trial_set") != "noise_ceiling")
    key = ["trial_set", "i", "j", "k"]
    odd = main.join(rated.collect(), on=key, how="left", maintain_order="left")["odd"].to_numpy()
    shown, odd = np.tile(shown, (4, 1)), np.tile(odd, 4)  # four participants answer each triplet
    place = (shown == odd[:, None]).argmax(axis=1)
    rng = np.random.default_rng(0)
    place = np.where(rng.random(len(place)) < 0.3, rng.integers(0, 3, len(place)), place)  # 80 % agree
    n = np.arange(len(place))
    same = People(others.ids, shown, place, n // len(main), n % len(main), np.ones(len(place)))
    imported(lake, table(same, tmp_path / "same.csv"))
    later = replace(others, participant=others.participant + 10)
    imported(lake, table(later, tmp_path / "others.csv"))
    said: list[str] = []
    built = run(lake, said.append)
    assert "embed@people" in built.ran
    assert "embed@human-category" not in built.ran
    comparisons = read_output(lake, Output("comparisons")).collect()
    both = comparisons.filter(pl.col("agent") == "people", pl.col("against") == "human-category")
    (kappa,) = both.filter(pl.col("measure") == "kappa").iter_rows(named=True)
    assert len(main) <= kappa["n"] <= len(main) + 100
    assert kappa["value"] == pytest.approx(0.7, abs=0.08)
    (r,) = both.filter(pl.col("measure") == "pearson_r").iter_rows(named=True)
    assert r["note"] is None
    assert r["value"] > 0.6
    trials = of(lake, "trials")
    known = trials.join(main.select("i", "j", "k", "trial_set", "split"), on=key, how="inner")
    assert known.height == main.filter(pl.col("trial_set") == "main").height
    assert (known["split"] == known["split_right"]).all()
    assert set(trials["split"]) == {"train", "validation", "test"}
    metrics = of(lake, "metrics")
    (held_out,) = metrics.filter(pl.col("analysis") == "held_out", pl.col("measure") == "accuracy").rows(named=True)
    assert held_out["n"] == trials.filter(pl.col("split") == "test")["n_repeats"].sum()
    assert held_out["value"] > 0.5
    (agreed,) = metrics.filter(pl.col("measure") == "agreement").rows(named=True)
    reliability = of(lake, "reliability").rows_by_key("measure", named=True, unique=True)
    between = reliability["between_participants"]
    expected = 0.8**2 + 2 * 0.1**2  # each of the two answers is the rated one, or one of the other two
    assert between["ci_low"] < expected < between["ci_high"]
    assert agreed["n"] == trials.filter(pl.col("n_repeats") > 1).height
    assert open_lake(lake).sql("select count(*) as n from participants").to_dicts() == [{"n": 10}]
    affectlake("report", "--lake", lake)
    page = Path(affectlake("report", "--lake", lake).stdout.strip()).read_text()
    assert "people" in page


def test_a_longer_export_adds_only_what_is_new(lake: Path, people: People, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    assert imported(lake, table(people.first(500), path))["new"] == 500
    again = affectlake("import", "people", path, "--lake", lake)
    assert "nothing is new: all 500 judgments are stored" in again.stdout
    assert [one.name for one in list_versions(lake)] == ["v1", "v2"]
    found = imported(lake, table(people, tmp_path / "under another name.csv"))
    assert (found["new"], found["stored"], found["version"]) == (len(people) - 500, 500, "v3")
    stored = of(lake, "responses")
    stored = stored.rename({"given_odd": "odd"})
    assert sorted(map(list, stored.select(ANSWER).rows())) == answers(people)
    counts = stored.group_by("i", "j", "k").agg(pl.col("repeat").sort())
    assert counts["repeat"].to_list() == [list(range(len(one))) for one in counts["repeat"]]


def test_a_file_without_participants_is_recognised_by_its_name(lake: Path, people: People, tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    imported(lake, things(people.first(300), path))
    assert imported(lake, things(people, path))["new"] == len(people) - 300
    other = things(people, tmp_path / "copy.txt")
    refused = affectlake("import", "people", other, "--lake", lake, ok=1).stderr
    assert "copy.txt begins with the judgments of train.txt" in refused
    path.write_text("0 1 2\n" + path.read_text().partition("\n")[2])
    refused = affectlake("import", "people", path, "--lake", lake, ok=1).stderr
    assert "1 judgments are stored with another answer or other stimuli" in refused
    assert "train.txt, row 1" in refused
    assert of(lake, "responses").height == len(people)


def test_a_stored_judgment_with_another_answer_is_refused(lake: Path, people: People, tmp_path: Path) -> None:
    path = table(people.first(100), tmp_path / "data.csv")
    imported(lake, path)
    changed = People(people.ids, people.shown, (people.odd + (np.arange(len(people)) == 41)) % 3, people.participant,
                     people.trial, people.seconds)  # fmt: skip
    refused = affectlake("import", "people", table(changed, path), "--lake", lake, ok=1).stderr
    assert "data.csv, row 42" in refused
    assert of(lake, "responses").height == 100


def test_bad_rows_are_refused_or_left_out_and_counted(lake: Path, people: People, tmp_path: Path) -> None:
    path = table(people.first(50), tmp_path / "data.csv")
    text = path.read_text().splitlines()
    text[3] = text[3].replace(text[3].split(",")[2], "nobody")
    path.write_text("\n".join(text))
    refused = affectlake("import", "people", path, "--lake", lake, ok=1).stderr
    assert "1 judgment cannot be used; nothing was stored" in refused
    assert "row 3: the stimulus nobody is not in the catalogue" in refused
    assert "row 3: the stimulus nobody" in affectlake("import", "people", path, "--lake", lake, "--dry-run").stdout
    assert not (lake / Output("responses", "people").folder).exists()
    found = imported(lake, path, "--skip-bad")
    assert (found["new"], found["unusable"]) == (49, 1)


def catch(people: People, path: Path) -> Path:
    """Write a table in which each tenth trial is a catch trial, which P0 fails; P5 gives few answers."""
    rows = ["participant,trial,s1,s2,s3,odd,rt,catch,correct_answer"]
    for at in range(len(people)):
        who, names = int(people.participant[at]), people.named(at)
        if who == 5 and people.trial[at] >= 15:
            continue
        is_catch = people.trial[at] % 10 == 0
        odd = names[int(people.odd[at])]
        right = names[(int(people.odd[at]) + (who == 0)) % 3] if is_catch else ""
        seconds = 0.2 if at % 7 == 0 else 1.5
        rows.append(f"P{who},{people.trial[at]},{','.join(names)},{odd},{seconds},{str(is_catch).lower()},{right}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_exclusions_are_counted_by_their_rule(lake: Path, people: People, tmp_path: Path) -> None:
    imported(lake, catch(people, tmp_path / "data.csv"))
    exclude(lake, **RULES)
    build_steps(lake, "choose_by_judgments")
    stored = pl.read_csv(tmp_path / "data.csv")
    is_catch, fast = stored["catch"], stored["rt"] < 0.6
    of_p0, of_p5 = stored["participant"] == "P0", stored["participant"] == "P5"
    excluded = dict(of(lake, "excluded_judgments").group_by("rule").len().rows())
    assert excluded == {
        "catch_trial": is_catch.sum(),
        "faster_than_ms": (fast & ~is_catch).sum(),
        "failed_catch": (~is_catch & ~fast & of_p0).sum(),
        "fewer_than": (~is_catch & ~fast & of_p5).sum(),
    }
    choices = of(lake, "choices")
    assert choices.height == stored.height - sum(excluded.values())
    participants = of(lake, "participants").rows_by_key("participant", named=True, unique=True)
    assert {name: one["excluded_by"] for name, one in participants.items()} == {
        "P0": "failed_catch", "P1": None, "P2": None, "P3": None, "P4": None, "P5": "fewer_than",
    }  # fmt: skip
    assert sum(one["n_used"] for one in participants.values()) == choices.height
    assert participants["P0"]["n_catch_failed"] == participants["P0"]["n_catch"] > 0
    exclude(lake)
    build_steps(lake, "choose_by_judgments")
    assert of(lake, "choices").height == stored.height - is_catch.sum()


def crowd(lake: Path, path: Path) -> Path:
    """Write 200 judgments of each of twelve participants; P3 chooses always the second, P7 at random, P8 fast."""
    people = simulate(ids_of(lake), 2400, 12, seed=3)
    rng, who = np.random.default_rng(5), people.participant
    odd, seconds = people.odd.copy(), people.seconds.copy()
    odd[who == 3] = 1
    odd[who == 7] = rng.integers(0, 3, int((who == 7).sum()))
    seconds[who == 8] = 0.3
    return table(replace(people, odd=odd, seconds=seconds), path)


def test_inattentive_participants_are_found_by_speed_runs_and_the_others(lake: Path, tmp_path: Path) -> None:
    imported(lake, crowd(lake, tmp_path / "crowd.csv"))
    wanted = {"level": 0.05, "power": 0.9}
    exclude(lake, faster_than_ms=400, fast_share=0.5, position_run=1e-6, inattentive=wanted)
    build_steps(lake, "choose_by_judgments")
    found = dict(of(lake, "participants").select("participant", "excluded_by").rows())
    assert {who: rule for who, rule in found.items() if rule} == {
        "P03": "position_run", "P07": "inattentive", "P08": "fast_share",
    }  # fmt: skip
    rows = of(lake, "attention").rows_by_key("participant", named=True, unique=True)
    assert rows["P03"]["longest_run"] == 200
    assert rows["P03"]["random_p"] > 0.05
    assert rows["P07"]["follow_low"] == 0.0
    assert rows["P07"]["follow_high"] < 0.5 < rows["P01"]["follow_share"]
    assert (rows["P08"]["fast_share"], rows["P08"]["n_scored"]) == (1.0, 0)
    trials = of(lake, "trials")
    train = trials.filter(pl.col("split") == "train").select("i", "j", "k")
    answers = of(lake, "responses").join(train, on=["i", "j", "k"], how="semi")
    assert rows["P01"]["n_scored"] == answers.filter(pl.col("participant") == "P01").height < 200
    counted = dict(of(lake, "excluded_judgments").group_by("rule").len().rows())
    assert counted == {"position_run": 200, "inattentive": 200, "faster_than_ms": 200}
    exclude(lake)
    build_steps(lake, "choose_by_judgments")
    assert of(lake, "choices").height == 2400
    assert set(of(lake, "attention")["note"]) == {"exclude.inattentive is not set"}
    exclude(lake, fast_share=0.5)
    refused = affectlake("run", "--lake", lake, ok=2).stderr
    assert "has no effect without faster_than_ms" in refused


def test_test_answers_do_not_decide_who_is_left_out(lake: Path, people: People, tmp_path: Path) -> None:
    imported(lake, crowd(lake, tmp_path / "crowd.csv"))
    exclude(lake, inattentive={})
    tables = {name: read_output(lake, Output(name)) for name in ("stimuli", "triplets")}
    stored = of(lake, "responses")
    context = StepContext("people", lake, tmp_path, 1, lambda _: None, lambda _: None)
    found = choose_by_judgments(tables | {"responses": stored.lazy()}, load(lake), context)
    held_out = found["trials"].filter(pl.col("split") != "train").select("i", "j", "k", held_out=True)
    placed = stored.join(held_out, on=["i", "j", "k"], how="left", maintain_order="left")
    other = pl.when("held_out").then(pl.col("k")).otherwise("given_odd").alias("given_odd")  # other test answers
    changed = placed.with_columns(other).drop("held_out")
    assert not changed["given_odd"].equals(stored["given_odd"])
    again = choose_by_judgments(tables | {"responses": changed.lazy()}, load(lake), context)
    columns = ["participant", "n_scored", "follow_share", "random_p", "random_power"]
    assert again["attention"].select(columns).equals(found["attention"].select(columns))


def test_judgments_without_participants_have_no_reliability(lake: Path, people: People, tmp_path: Path) -> None:
    imported(lake, things(people, tmp_path / "data.txt"))
    build_steps(lake, "choose_by_judgments")
    assert set(of(lake, "reliability")["note"]) == {"the judgments do not name the participants"}
    assert of(lake, "participants").is_empty()


def test_judgments_of_stimuli_that_are_others_now_are_imported_again(
    lake: Path, people: People, tmp_path: Path
) -> None:
    path = table(people, tmp_path / "data.csv")
    imported(lake, path)
    stored = read_output(lake, Output("stimuli")).collect()
    moved = stored.with_columns(stimulus_id=pl.col("stimulus_id").reverse())  # as if the catalogue were reordered
    tables = {name: read_output(lake, Output(name)) for name in ("stimuli", "triplets")}
    tables |= {"stimuli": moved.lazy(), "responses": of(lake, "responses").lazy()}
    context = StepContext("people", lake, tmp_path, 1, lambda _: None, lambda _: None)
    found = choose_by_judgments(tables, load(lake), context)
    assert found["choices"].is_empty()
    assert set(found["excluded_judgments"]["rule"]) == {"catalogue_changed"}
    assert found["excluded_judgments"].height == len(people)
    again = table(replace(people, ids=moved["stimulus_id"].to_list()), tmp_path / "again.csv")
    write_outputs(lake, "moved", {Output("stimuli"): moved}, {})
    read = read_files(lake, load(lake), "people", [again], ReadingOptions())
    new = new_rows(lake, read)
    assert new.height == len(people)  # the stored rows are of other stimuli now
    both = pl.concat([of(lake, "responses"), as_responses(new).with_columns(shard=pl.lit(1, pl.Int32))], how="diagonal")
    found = choose_by_judgments(tables | {"responses": both.lazy()}, load(lake), context)
    assert found["choices"].height == len(people)
    twice = pl.concat([both, both.with_columns(shard=pl.col("shard") + 2)])  # as after a join of two clones
    same = choose_by_judgments(tables | {"responses": twice.lazy()}, load(lake), context)
    assert same["choices"].equals(found["choices"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("human-category", "x.csv"), 2, "'human-category' is not an agent whose judgments are imported"),
        (("nobody", "x.csv"), 2, "no such agent in params.yaml"),
        (("people", "missing.csv"), 1, "there is no file of judgments at missing.csv"),
        (("people", "x.csv", "--column", "odd"), 2, "does not say what a column is"),
    ],
)
def test_wrong_arguments_have_one_message(arguments: tuple[str, ...], code: int, message: str, lake: Path) -> None:
    refused = affectlake("import", *arguments, "--lake", lake, ok=code)
    assert message in " ".join(refused.stderr.split())
