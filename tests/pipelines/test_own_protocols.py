"""A lake's own protocols, from their files to choices, with a real server and the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from affectlake.errors import LakeError, UsageError
from affectlake.judge.protocols.builtin import BUILT_IN
from affectlake.judge.responses.parsing import parse
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files.outputs import Output
from affectlake.lake.restore import restore
from affectlake.lake.store.dvc_stages import is_current
from affectlake.lake.store.git_objects import content_at
from affectlake.lake.store.versions import resolve
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import statuses
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.params.protocols import parse_protocol
from affectlake.pipelines.params.study import load
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer
from tests.support.lakes import ROOT

OBJECTS = """\
modality: captions
before: |
  Three sounds were described by listeners.
stimulus: "Sound {n}: {caption}"
separator: "\\n"
labels: [A, B, C]
after: |
  Which sound is the odd one out? Answer as JSON: {"odd": "A"}, {"odd": "B"} or {"odd": "C"}.
answer: {read: json-field, field: odd}
example:
  'Sound A and C are alike: {"odd": "B"}': 2
  "I cannot hear sounds": null
"""


def says(body: bytes) -> str:
    """Answer as a listener who finds the description with the largest number the odd one."""
    (message,) = json.loads(body)["messages"]
    shown = re.findall(r"Sound ([ABC]): ([^\n]*)", message["content"])
    assert len(shown) == 3, message
    return json.dumps({"odd": max(shown, key=lambda one: one[1])[0]})


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("protocols") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",), says=says).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    change(lake, servers=[server.url], protocol="sounds", sampling={"max_tokens": 64})
    write(lake, OBJECTS)
    return lake


def write(lake: Path, text: str, name: str = "sounds") -> None:
    (lake / "protocols").mkdir(exist_ok=True)
    (lake / "protocols" / f"{name}.yaml").write_text(text)


def change(lake: Path, **entry: object) -> None:
    """Change keys of the agent's entry in params.yaml."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["affectlake", *map(str, words)], capture_output=True, text=True, check=False)


def quiet(_line: str) -> None:
    """Say nothing."""


def collected(lake: Path, limit: int | None = None) -> int:
    return collect_answers(lake, CollectionRequest("tiny", limit=limit), quiet).n_added


def rows(lake: Path, table: str) -> pl.DataFrame:
    return read_output(lake, Output(table, "tiny")).collect()


def test_answers_to_a_protocol_of_the_lake_become_choices(lake: Path, server: FaultServer) -> None:
    name = load(lake).agents["tiny"].protocol
    assert re.fullmatch(r"sounds/[0-9a-f]{12}", name)
    assert collected(lake) == 435
    assert content_at(lake, resolve(lake).commit, Path("protocols/sounds.yaml")) == OBJECTS.encode()
    responses = rows(lake, "responses")
    assert set(responses["protocol"]) == {name}
    built = run(lake)
    assert "choose_by_chat@tiny" in built.ran
    choices = rows(lake, "choices")
    assert choices.height == 435 and set(choices["protocol"]) == {name}
    captions = read_output(lake, Output("captions")).collect()
    text = {(s, c): t for s, c, t in captions.select("stimulus_index", "caption_index", "caption").iter_rows()}
    odd = {row[:3]: row[3] for row in choices.select("i", "j", "k", "odd").iter_rows()}
    for row in responses.iter_rows(named=True):
        shown = {row[f"shown_{p}"]: text[row[f"shown_{p}"], row[f"caption_{p}"]] for p in (1, 2, 3)}
        assert odd[row["i"], row["j"], row["k"]] == max(shown, key=lambda s: shown[s])
    assert not rows(lake, "unparsed").height
    assert run(lake).ran == []


def test_a_changed_text_is_another_protocol_and_its_answers_are_apart(lake: Path) -> None:
    assert collected(lake, 30) == 30
    run(lake)
    first = resolve(lake)
    write(lake, OBJECTS.replace("Which sound is", "Which of the sounds is"))
    assert not is_current(lake, "choose_by_chat@tiny")
    (status,) = (one for one in statuses(lake, load(lake)) if one.trial_set == "main")
    assert (status.n_answered, status.n_other) == (0, 30)
    assert collected(lake, 20) == 20
    run(lake)
    names = rows(lake, "responses")["protocol"].value_counts().sort("count")
    assert names["count"].to_list() == [20, 30]
    assert rows(lake, "choices").height == 20
    for version, text in ((first, "Which sound is"), (resolve(lake), "Which of the sounds is")):
        assert text.encode() in (content_at(lake, version.commit, Path("protocols/sounds.yaml")) or b"")
    write(lake, OBJECTS)  # the first wording again: its answers count again, and are not asked again
    (status,) = (one for one in statuses(lake, load(lake)) if one.trial_set == "main")
    assert (status.n_answered, status.n_other) == (30, 20)


def test_another_rule_of_reading_reads_the_stored_answers_again(lake: Path, server: FaultServer) -> None:
    collected(lake, 30)
    run(lake)
    before, n_asked = rows(lake, "choices"), sum(server.asked.values())
    name = load(lake).agents["tiny"].protocol
    words = "{read: position-words, words: [[A], [B], [no-such-word]]}"
    text = OBJECTS.replace("{read: json-field, field: odd}", words).replace("Sound A and C are alike: ", "")
    write(lake, text)
    assert load(lake).agents["tiny"].protocol == name
    assert "choose_by_chat@tiny" in run(lake).ran
    assert sum(server.asked.values()) == n_asked
    after = rows(lake, "choices")
    assert 0 < after.height < before.height == 30
    assert rows(lake, "unparsed")["unparsed_reason"].unique().to_list() == ["no_position"]
    assert after.join(before, on=["trial_set", "i", "j", "k", "odd"], how="anti").is_empty()


def test_answers_of_an_interrupted_run_are_published_with_the_wording_they_were_asked_in(lake: Path) -> None:
    from affectlake.judge.requests.collector import collect
    from affectlake.judge.requests.request_limits import Target
    from affectlake.pipelines.collection.planning import plan_questions
    from affectlake.pipelines.collection.publishing import open_journal, publish_waiting

    params = load(lake)
    agent = params.agents["tiny"]
    plan = plan_questions(lake, params, "tiny", "main", limit=10)
    with open_journal(lake, params, agent) as journal:
        collect(plan.questions(), journal, Target(tuple(agent.servers), agent.model))
    (lake / "protocols/sounds.yaml").unlink()
    change(lake, protocol="naive-least-similar")
    assert publish_waiting(lake, "tiny", quiet).n_added == 10
    assert set(rows(lake, "responses")["protocol"]) == {agent.protocol}


def test_protocols_are_part_of_versions(lake: Path) -> None:
    collected(lake, 10)
    run(lake)
    old = resolve(lake)
    write(lake, OBJECTS.replace("odd one out", "outlier"))
    with pytest.raises(LakeError, match="unpublished work"):
        checkout(lake, old)
    done = restore(lake, quiet)
    assert done.kept == ["protocols/sounds.yaml"] and done.aside is not None
    assert (lake / "protocols/sounds.yaml").read_text() == OBJECTS
    assert "outlier" in (done.aside / "protocols/sounds.yaml").read_text()
    write(lake, OBJECTS.replace("odd one out", "outlier"))
    run(lake)
    (lake / "protocols/sounds.yaml").unlink()
    change(lake, protocol="naive-least-similar")
    run(lake)
    gone = resolve(lake)
    assert content_at(lake, gone.commit, Path("protocols/sounds.yaml")) is None
    assert run(lake).version is None
    (lake / "protocols").rmdir()
    with repository.writing(lake, "test"):
        checkout(lake, old)
    assert (lake / "protocols/sounds.yaml").read_text() == OBJECTS
    with repository.writing(lake, "test"):
        checkout(lake, gone)
    assert not (lake / "protocols/sounds.yaml").exists()
    for version in (old.name, gone.name):  # both stay readable
        for words in (["cite"], ["query", "select count(*) as n from choices where agent = 'tiny'"], ["report"]):
            at = [version] if words == ["cite"] else ["--at", version]
            found = command(*words, *at, "--lake", lake)
            assert found.returncode == 0, found.stderr


def test_only_the_agent_whose_protocol_changed_is_stale(lake: Path) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["plain"] = raw["agents"]["tiny"] | {"protocol": "describe-then-choose"}
    raw["agents"]["other"] = raw["agents"]["tiny"] | {"protocol": "sounds-2"}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    write(lake, OBJECTS.replace("Three", "The three"), "sounds-2")
    for name in ("tiny", "plain", "other"):
        collect_answers(lake, CollectionRequest(name, limit=5), quiet)
    assert set(run(lake).ran) >= {f"choose_by_chat@{name}" for name in ("tiny", "plain", "other")}
    assert run(lake).ran == []
    write(lake, OBJECTS.replace("Three", "Any three"), "sounds-2")
    dvcfile.write(lake)
    stale = {name for name in ("tiny", "plain", "other") if not is_current(lake, f"choose_by_chat@{name}")}
    assert stale == {"other"}


def refused(lake: Path, text: str, name: str = "sounds") -> str:
    write(lake, text, name)
    with pytest.raises(UsageError) as error:
        load(lake)
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"Sound {n}: {caption}"', '"Sound {n}"', "stimulus has no place for the stimulus"),
        ('"Sound {n}: {caption}"', '"{number} {caption}"', "stimulus contains {number}"),
        ("sound is the odd", "{caption} is the odd", "after contains {caption}"),
        ("separator:", "seperator:", "did you mean 'separator'"),
        ("modality: captions", "modality: sounds", "modality must be one of captions, videos"),
        ("modality: captions\n", "", "modality is missing"),
        ("[A, B, C]", "[A, B, a]", "labels are not all different"),
        ("[A, B, C]", "[A, B]", "labels"),
        ("{read: json-field, field: odd}", "{read: json}", "answer.read must be one of"),
        ("{read: json-field, field: odd}", "{read: json-field}", "answer.field is missing"),
        ("{read: json-field, field: odd}", "{read: key-phrase, phrase: 'odd (one'}", "answer.phrase is not a regular"),
        ("{read: json-field, field: odd}", "{read: key-phrase, phrase: 'x*'}", "matches an empty text"),
        ("{read: json-field, field: odd}", "{read: location, noun: '(?P<a>x)'}", "answer.noun has a named group"),
        ("{read: json-field, field: odd}", "{read: position-words, words: [[a], [b], [A]]}", "for two positions"),
        ("{read: json-field, field: odd}", "{read: position-words, words: [[a], [b]]}", "answer.words"),
        ('"odd": "B"}\': 2', '"odd": "B"}\': 3', "reads another position"),
        ('"odd": "B"}\': 2', '"odd": "B"}\': 4', "example"),
        ("field: odd", "field: choice", "reads another position"),
        ("modality", "version: 1\nmodality", "version is not a known key"),
        ("before: |", "before: [", "is not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_one_message(lake: Path, old: str, new: str, says: str) -> None:
    assert old in OBJECTS
    found = refused(lake, OBJECTS.replace(old, new))
    assert says in found and "sounds.yaml" in found


def test_examples_are_required_where_something_is_to_be_read(lake: Path) -> None:
    head, _, _ = OBJECTS.partition("example:")
    assert "example is missing" in refused(lake, head)
    write(lake, head.replace("{read: json-field, field: odd}", "{read: one-token}"))
    assert load(lake).agents["tiny"].protocol.startswith("sounds/")


def test_names_of_files(lake: Path) -> None:
    assert "has the name of a built-in protocol" in refused(lake, OBJECTS, "forced-choice")
    (lake / "protocols/forced-choice.yaml").unlink()
    assert "'Sounds' and 'sounds' differ only in the case of letters" in refused(lake, OBJECTS, "Sounds")
    (lake / "protocols/Sounds.yaml").unlink()
    assert "'Tones' is not a name for a protocol" in refused(lake, OBJECTS, "Tones")
    (lake / "protocols/Tones.yaml").rename(lake / "protocols/Sounds.yaml")
    (lake / "protocols/Sounds.yaml").unlink()
    (lake / "protocols/tones.yml").write_text(OBJECTS)
    assert "tones.yml does not end in .yaml" in refused(lake, OBJECTS)
    (lake / "protocols/tones.yml").rename(lake / "protocols/README.md")  # other files are left alone
    change(lake, protocol="sound")
    assert "did you mean 'sounds'" in refused(lake, OBJECTS)
    change(lake, protocol="sounds", modality="videos")
    assert "modality must be captions" in refused(lake, OBJECTS)


def test_a_file_that_no_agent_uses_does_not_stop_a_run(lake: Path) -> None:
    write(lake, "modality: [", "draft")
    assert load(lake).agents["tiny"].protocol.startswith("sounds/")
    listed = command("protocols", "list", "--lake", lake)
    assert listed.returncode == 1 and "draft" in listed.stdout and "draft.yaml is not YAML" in listed.stderr


def test_what_is_shown_is_what_is_sent(lake: Path, server: FaultServer) -> None:
    bodies: list[dict[str, object]] = []
    server.says = lambda body: bodies.append(json.loads(body)) or says(body)  # type: ignore[func-returns-value]
    collected(lake, 3)
    row = rows(lake, "responses").row(0, named=True)
    trial = f"{row['k']},{row['i']},{row['j']}"
    shown = command("protocols", "show", "sounds", "--trial", trial, "--lake", lake)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) in bodies
    other = command("protocols", "show", "forced-choice/caption", "--agent", "tiny", "--lake", lake)
    assert json.loads(other.stdout)["structured_outputs"] == {"choice": ["1", "2", "3"]}
    none = command("protocols", "show", "naive-describe", "--lake", lake)
    assert "CAPTION 1" in none.stdout and "placeholders" in none.stderr
    wrong = command("protocols", "show", "sonuds", "--lake", lake)
    assert wrong.returncode != 0 and "did you mean 'sounds'" in wrong.stderr
    for trial in ("1,2", "1,1,2", "a,b,c", "0,1,999"):
        wrong = command("protocols", "show", "sounds", "--trial", trial, "--lake", lake)
        assert wrong.returncode != 0 and "trial" in wrong.stderr, trial


def test_a_copy_is_a_protocol_to_start_from(lake: Path) -> None:
    made = command("protocols", "copy", "describe-then-choose/caption", "mine", "--lake", lake)
    assert made.returncode == 0, made.stderr
    checked = command("protocols", "check", lake / "protocols/mine.yaml")
    assert checked.returncode == 0 and "mine/" in checked.stdout and "1 example is read" in checked.stdout
    listed = command("protocols", "list", "--json", "--lake", lake)
    found = {one["name"]: one for one in json.loads(listed.stdout)}
    assert found["mine"]["agents"] == [] and found["sounds"]["agents"] == ["tiny"] and len(found) == 2 + len(BUILT_IN)
    for name, message in (("mine", "exists"), ("Mine", "is not a name"), ("forced-choice", "built-in")):
        again = command("protocols", "copy", "sounds", name, "--lake", lake)
        assert again.returncode != 0 and message in again.stderr, name


def test_the_example_of_the_documentation_is_valid() -> None:
    page = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "modality" in block)
    found = parse_protocol(text.encode(), "sounds", "docs/protocols.md")
    assert found.text_with(("a bell", "a horn", "rain")) == (
        "You compare everyday sounds. Each sound is replaced by what a listener wrote about it.\n"
        "Sound A: a bell\nSound B: a horn\nSound C: rain\n"
        "Which of the three sounds is the odd one out, by what one hears rather than by the words of the description?\n"
        'Answer with one line: "Odd one out: Sound" and its letter.'
    )
    for answer, position in (
        ("Sound A is a siren. **Odd one out: Sound C**", 3),
        ("The second sound is the odd one out.", 2),
        ("Odd one out: Sound A or B", None),
        ("Sound B", None),
        ("odd one out: sound b", None),  # a letter keeps its case
    ):
        assert parse(answer, found).position == position, answer


def test_a_version_is_rebuilt_with_its_own_protocols(lake: Path) -> None:
    collected(lake, 40)
    run(lake)
    old = resolve(lake)
    write(lake, OBJECTS.replace("json-field, field: odd}", "position-words, words: [[A], [B], [no]]}"))
    write(lake, (lake / "protocols/sounds.yaml").read_text().replace("Sound A and C are alike: ", ""))
    run(lake)
    for version in (old, resolve(lake)):
        done = command("verify", version.name, "--lake", lake)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "choices/tiny: same" in done.stdout


def test_a_joined_lake_has_the_protocols_of_both(lake: Path, tmp_path: Path) -> None:
    run(lake)
    other = shutil.copytree(lake, tmp_path / "other", symlinks=True)
    raw = yaml.safe_load((other / "params.yaml").read_text())
    raw["agents"]["third"] = raw["agents"]["tiny"] | {"protocol": "sounds-2"}
    (other / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    write(other, OBJECTS.replace("Three", "The three"), "sounds-2")
    write(other, OBJECTS.replace("Three", "Any three"))
    collect_answers(other, CollectionRequest("third", limit=15), quiet)
    run(other)
    collected(lake, 5)
    write(lake, OBJECTS.replace("Three", "Some three"))
    run(lake)
    joined = command("join", other, "--lake", lake)
    assert joined.returncode == 0, joined.stderr
    said = joined.stdout + joined.stderr
    assert "their agent third is added" in said and "protocols/sounds.yaml differs; yours is kept" in said
    assert (lake / "protocols/sounds.yaml").read_text() == OBJECTS.replace("Three", "Some three")
    assert (lake / "protocols/sounds-2.yaml").read_text() == OBJECTS.replace("Three", "The three")
    (status,) = (one for one in statuses(lake, load(lake)) if (one.agent, one.trial_set) == ("third", "main"))
    assert status.n_answered == 15
    assert "choose_by_chat@third" in run(lake).ran


def test_a_clone_has_the_protocols_and_dvc_runs_what_they_changed(lake: Path, tmp_path: Path) -> None:
    collected(lake, 20)
    run(lake)
    assert "files were sent" in command("push", "--lake", lake).stderr  # to its own folder, as there is no origin
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(lake), str(clone)], check=True)
    subprocess.run(["dvc", "remote", "modify", "--local", "storage", "url", str(lake / "storage/remote")], cwd=clone,
                   check=True, capture_output=True)  # fmt: skip
    pulled = command("pull", "--lake", clone)
    assert pulled.returncode == 0, pulled.stderr
    assert command("checkout", "latest", "--lake", clone).returncode == 0
    assert (clone / "protocols/sounds.yaml").read_text() == OBJECTS
    assert rows(clone, "choices").equals(rows(lake, "choices"))
    assert is_current(clone, "choose_by_chat@tiny")
    write(clone, OBJECTS.replace("{read: json-field, field: odd}", "{read: json-field, field: odd}  # unchanged"))
    done = subprocess.run(
        ["dvc", "status", "choose_by_chat@tiny"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert "protocols/sounds.yaml" in done.stdout
    done = subprocess.run(
        ["dvc", "repro", "-s", "choose_by_chat@tiny"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    published = command("publish", "--lake", clone)
    assert published.returncode == 0, published.stderr
    assert "# unchanged" in (content_at(clone, resolve(clone).commit, Path("protocols/sounds.yaml")) or b"").decode()


def test_videos_are_shown_with_a_text_before_each() -> None:
    text = OBJECTS.replace("captions", "videos").replace('"Sound {n}: {caption}"', '"Clip {n}"')
    found = parse_protocol(text.replace('separator: "\\n"\n', "").encode(), "clips", "clips.yaml")
    parts = found.parts_with([("x", "data:1"), ("y", "data:2"), ("z", "data:3")])
    assert [part.get("text", part.get("uuid")) for part in parts] == [
        "Three sounds were described by listeners.", "Clip A", "x", "Clip B", "y", "Clip C", "z",
        'Which sound is the odd one out? Answer as JSON: {"odd": "A"}, {"odd": "B"} or {"odd": "C"}.',
    ]  # fmt: skip


def test_only_what_is_sent_is_in_the_hash() -> None:
    def digest(text: str, name: str = "sounds") -> str:
        return parse_protocol(text.encode(), name, name).full_name

    base = digest(OBJECTS)
    for same in (
        f"# a comment\n{OBJECTS}",
        OBJECTS.replace("before: |\n  Three", "before: |\n\n  Three"),
        OBJECTS.replace("I cannot hear sounds", "No"),
        OBJECTS.replace("{read: json-field, field: odd}", "{field: odd, read: json-field}"),
    ):
        assert digest(same) == base, same
    others = [
        OBJECTS.replace("Three", "The three"),
        OBJECTS.replace("Which", "What"),
        OBJECTS.replace("Sound {n}:", "Sound {n}"),
        OBJECTS.replace('separator: "\\n"', 'separator: " "'),
        OBJECTS.replace("[A, B, C]", "[A, B, D]"),
        OBJECTS.partition("answer:")[0] + "answer: {read: one-token}\n",
    ]
    assert len({digest(text) for text in (OBJECTS, *others)} | {digest(OBJECTS, "sounds-2")}) == len(others) + 2
