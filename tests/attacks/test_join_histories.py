"""Histories of two clones: merged by Git and mended by `join`, cut off anywhere, and at random beside a dictionary."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from affectlake.errors import LakeError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.recovery import recover
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.attacks.two_lakes import (
    Row,
    add,
    build,
    clone,
    contents,
    git,
    in_folder,
    join,
    quiet,
    row,
    rows,
    share,
)
from tests.support.power import Switch, points, power


def sound(lake: Path) -> None:
    assert [f for v in list_versions(lake) for f in check(lake, v, repair=False, remote=None)] == []
    assert in_folder(lake) == rows(lake) == rows(lake, resolve(lake).commit)
    assert git(lake, "status", "--porcelain") == ""
    assert git(lake, "rev-parse", "HEAD") == resolve(lake).commit


def merge(ours: Path, theirs: Path, *options: str) -> None:
    """Merge their branch as somebody does who knows Git."""
    git(ours, "fetch", "--quiet", *options, theirs, "main", ok=False)  # tags that clash do not come
    git(ours, "merge", "--quiet", "--no-edit", "FETCH_HEAD", ok=False)


def refused_until_joined(lake: Path) -> None:
    """Every command that writes names the remedy."""
    for command in (
        lambda: recover(lake, quiet),
        lambda: repository.publish(lake),
        lambda: checkout(lake, resolve(lake, "v1")),
        lambda: pull(lake),
    ):
        with pytest.raises(LakeError, match="join them with `affectlake join`"):
            command()


@pytest.mark.parametrize("tags", ["--no-tags", "--tags"])
def test_conflicts_of_a_merge_by_git_are_mended(pair: tuple[Path, Path], tags: str) -> None:
    ours, theirs = pair
    build(ours, 6)
    add(ours, "tiny", row(2), row(3))
    for n in (7, 8, 9):
        build(theirs, n)
    add(theirs, "tiny", row(3), row(4))
    for lake in pair:
        (lake / "params.yaml").write_text(f"study: tiny\nseed: {len(lake.name)}\n")
        repository.publish(lake)
    before = contents(ours) | contents(theirs)
    merge(ours, theirs, tags)
    assert "<<<<<<<" in (ours / "params.yaml").read_text()
    assert "<<<<<<<" in (ours / Output("responses", "tiny").pointer).read_text()
    refused_until_joined(ours)
    with pytest.raises(LakeError, match="affectlake join FOLDER"):
        join(ours)  # Git brings no answers
    done = join(ours, theirs)
    assert done.made
    assert len(git(ours, "rev-parse", "HEAD^@").split()) == 2
    assert rows(ours)["responses/tiny"] == sorted([row(0), row(1, failed=True), row(2), row(3), row(4)], key=repr)
    assert (ours / "params.yaml").read_text() == "study: tiny\nseed: 4\n"
    assert before.items() <= contents(ours).items()
    sound(ours)
    join(theirs, ours)
    assert rows(theirs) == rows(ours)
    sound(theirs)


def test_a_merge_that_a_person_resolved_is_joined_as_he_left_the_parameters(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    for lake, n in ((ours, 2), (theirs, 3)):
        (lake / "params.yaml").write_text(f"study: tiny\nseed: {n}\n")
        (lake / "notes.txt").write_text(f"{n}\n")
        git(lake, "add", "notes.txt")
        git(lake, "commit", "--quiet", "--message", "notes")
        add(lake, "tiny", row(n))
    merge(ours, theirs)
    (ours / "params.yaml").write_text("study: tiny\nseed: 99\n")
    with pytest.raises(LakeError, match=r"notes\.txt"):
        join(ours, theirs)
    (ours / "notes.txt").write_text("2 and 3\n")
    git(ours, "add", "notes.txt")
    join(ours, theirs)
    assert (ours / "params.yaml").read_text() == "study: tiny\nseed: 99\n"
    assert (ours / "notes.txt").read_text() == "2 and 3\n"
    sound(ours)


def test_a_merge_commit_that_took_one_sides_answers_is_mended(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    before = contents(ours) | contents(theirs)
    merge(ours, theirs)
    git(ours, "checkout", "--theirs", "--", Output("responses", "tiny").pointer)
    git(ours, "add", "--all", "--", "storage/collected")
    git(ours, "commit", "--quiet", "--message", "merged")
    (ours / "more.txt").write_text("and went on\n")
    git(ours, "add", "more.txt")
    git(ours, "commit", "--quiet", "--message", "went on")
    refused_until_joined(ours)
    join(ours, theirs)
    assert rows(ours)["responses/tiny"] == sorted([row(0), row(1, failed=True), row(2), row(3)], key=repr)
    assert before.items() <= contents(ours).items()
    assert (ours / "more.txt").exists()
    sound(ours)


def test_a_clean_merge_by_git_of_different_agents_is_mended(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "one", row(2))
    add(theirs, "two", row(3))
    build(theirs, 8)
    merge(ours, theirs)
    assert git(ours, "status", "--porcelain") == ""
    refused_until_joined(ours)
    join(ours, theirs)
    assert set(rows(ours)) == {"responses/one", "responses/tiny", "responses/two"}
    sound(ours)


def test_a_fast_forward_by_git_is_followed(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(theirs, "two", row(3))
    build(theirs, 8)
    merge(ours, theirs, "--no-tags")
    assert git(ours, "rev-parse", "HEAD") == git(theirs, "rev-parse", "HEAD")
    with pytest.raises(LakeError, match="fetch them with `affectlake join`"):
        recover(ours, quiet)
    with pytest.raises(LakeError, match="affectlake join FOLDER"):
        join(ours)
    done = join(ours, theirs)
    assert (done.made, done.taken) == (False, ["v3", "v4"])
    assert contents(ours) == contents(theirs)
    sound(ours)


def test_tags_that_git_fetched_without_a_merge_lead_to_a_join(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    add(theirs, "tiny", row(4))
    git(ours, "fetch", "--quiet", "--tags", theirs, ok=False)
    assert resolve(ours).name == "v4"
    with pytest.raises(LakeError, match="join the two with `affectlake join`"):
        add(ours, "tiny", row(5))
    with pytest.raises(LakeError, match="affectlake join FOLDER"):
        join(ours)
    join(ours, theirs)
    add(ours, "tiny", row(5))
    assert rows(ours)["responses/tiny"] == sorted([row(0), row(1, failed=True), *map(row, (2, 3, 4, 5))], key=repr)
    sound(ours)


def test_a_merge_of_what_the_lake_does_not_keep_is_left_alone(pair: tuple[Path, Path]) -> None:
    ours, _ = pair
    git(ours, "switch", "--quiet", "--create", "side")
    (ours / "code.py").write_text("pass\n")
    git(ours, "add", "code.py")
    git(ours, "commit", "--quiet", "--message", "code")
    git(ours, "switch", "--quiet", "main")
    git(ours, "merge", "--quiet", "--no-ff", "--no-edit", "side")
    add(ours, "tiny", row(2))
    assert rows(ours)["responses/tiny"][-1:] != []
    sound(ours)


def test_a_table_that_no_version_has_is_not_overwritten(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    merge(ours, theirs)
    table = ours / Output("stimuli").folder / "part-00000.parquet"
    table.chmod(0o644)
    table.write_bytes(b"somebody's own")
    with pytest.raises(LakeError, match="tables that are not in any version"):
        join(ours, theirs)
    assert table.read_bytes() == b"somebody's own"
    table.rename(ours.parent / "mine")
    join(ours, theirs)
    sound(ours)


@pytest.mark.slow
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["some", "every"])
@pytest.mark.parametrize("how", ["join", "merged by Git", "forwarded by Git", "behind"])
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(
    parting: Path, tmp_path: Path, how: str, every: bool
) -> None:
    ours = shutil.copytree(parting, tmp_path / "ours", symlinks=True)
    theirs = clone(ours, tmp_path / "theirs")
    if how in ("join", "merged by Git"):
        add(ours, "tiny", row(2), row(3))
    add(theirs, "tiny", row(3), row(4))
    if how.endswith("by Git"):
        merge(ours, theirs, "--no-tags")
    lake = shutil.copytree(ours, tmp_path / "lake", symlinks=True)
    with power(Switch(lake, 0)) as switch:
        join(lake, theirs)
    old, answers, n_new = contents(ours), rows(lake), len(contents(lake))
    cuts = points(switch.events, False)[:: 1 if every else 3]
    for at in cuts:
        shutil.rmtree(lake)
        shutil.copytree(ours, lake, symlinks=True)
        with power(Switch(lake, at)) as switch:
            join(lake, theirs)
        where = switch.events[-1]
        assert switch.off, where
        found = contents(lake)
        assert found == old or (len(found) == n_new and old.items() <= found.items()), where
        join(lake, theirs)
        assert rows(lake) == answers, where
        assert len(contents(lake)) == n_new, where
        sound(lake)
    print(f"{len(cuts)} points")
    assert len(cuts) > (20 if every else 6)


def test_a_pull_cut_off_after_its_names_are_taken_is_finished_by_the_next_command(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    share(ours, theirs)
    add(theirs, "tiny", row(3))
    push(theirs, list_versions(theirs))
    copy = shutil.copytree(ours, ours.with_name("copy"), symlinks=True)
    with power(Switch(copy, 0)) as switch:
        pull(copy)
    moved = next(at for at, event in enumerate(switch.events, start=1) if event.startswith("run git update-ref"))
    with power(Switch(ours, moved + 1)) as switch:
        pull(ours)
    assert switch.off
    assert resolve(ours).name == "v3"
    assert in_folder(ours) != rows(theirs)
    recover(ours, quiet)
    assert in_folder(ours) == rows(theirs)
    sound(ours)


class Histories(RuleBasedStateMachine):
    """Two clones and what they share, beside plain sets: the answers of each, and the versions that each has."""

    template: Path

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.template, self.folder, symlinks=True, dirs_exist_ok=True)
        self.lakes = {name: self.folder / name for name in ("ours", "theirs")}
        share(*self.lakes.values())
        answers = rows(self.lakes["ours"])
        self.answers = {name: {agent: set(found) for agent, found in answers.items()} for name in self.lakes}
        self.published = contents(self.lakes["ours"])
        self.has = {name: set(self.published) for name in self.lakes}
        self.waiting = dict.fromkeys(self.lakes, False)
        self.origin = ({agent: set(found) for agent, found in answers.items()}, set(self.published))

    def teardown(self) -> None:
        for name, lake in self.lakes.items():
            if not self.waiting[name]:
                sound(lake)
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(
        name=st.sampled_from(["ours", "theirs"]),
        agent=st.sampled_from(["tiny", "other"]),
        questions=st.sets(st.integers(0, 9), min_size=1, max_size=3),
        text=st.sampled_from(["Video 1", "Video 2", ""]),
        publish=st.sampled_from([True, True, False]),
    )
    def collect(self, name: str, agent: str, questions: set[int], text: str, publish: bool) -> None:
        known = self.answers[name].setdefault(f"responses/{agent}", set())
        new = [row(n, text, failed=not text) for n in sorted(questions)]
        new = [one for one in new if one not in known]
        if new:
            add(self.lakes[name], agent, *new, publish=False)
            known.update(new)
            self.waiting[name] = True
        else:
            del known  # an agent without answers has no output
            self.answers[name] = {output: found for output, found in self.answers[name].items() if found}
        if publish:
            self.publish(name)

    @rule(agent=st.sampled_from(["tiny", "other"]), first=st.integers(0, 9), second=st.integers(0, 9))
    def collect_on_both_sides(self, agent: str, first: int, second: int) -> None:
        self.collect("ours", agent, {first}, "Video 1", publish=True)
        self.collect("theirs", agent, {second}, "Video 3", publish=True)

    @rule(name=st.sampled_from(["ours", "theirs"]), n_stimuli=st.integers(4, 7))
    def build(self, name: str, n_stimuli: int) -> None:
        build(self.lakes[name], n_stimuli)
        self._made(name)

    @rule(name=st.sampled_from(["ours", "theirs"]))
    def publish(self, name: str) -> None:
        recover(self.lakes[name], quiet)
        repository.publish(self.lakes[name])
        self._made(name)

    @rule(name=st.sampled_from(["ours", "theirs"]))
    def push(self, name: str) -> None:
        lake = self.lakes[name]
        try:
            push(lake, list_versions(lake))
        except LakeError as error:
            assert "affectlake join origin" in str(error)
            assert not self.origin[1] <= self.has[name] or self._clash(name)
        else:
            committed = rows(lake, resolve(lake).commit)
            self.origin = ({agent: set(found) for agent, found in committed.items()}, set(self.has[name]))

    @rule(name=st.sampled_from(["ours", "theirs"]))
    def pull(self, name: str) -> None:
        lake = self.lakes[name]
        before = self.has[name] | self.origin[1]
        try:
            pull(lake)
        except LakeError as error:
            parted = not self.origin[1] >= self.has[name] and not self.origin[1] <= self.has[name]
            assert self.waiting[name] or ("affectlake join origin" in str(error) and (parted or self._clash(name)))
        else:
            if not self.origin[1] <= self.has[name]:
                self._take(name, *self.origin)
            assert self.has[name] == before

    @rule(name=st.sampled_from(["ours", "theirs"]), how=st.sampled_from(["folder", "origin", "git"]))
    def join(self, name: str, how: str) -> None:
        lake, other = self.lakes[name], next(one for one in self.lakes if one != name)
        committed = rows(self.lakes[other], resolve(self.lakes[other]).commit)
        theirs = {agent: set(found) for agent, found in committed.items()}, self.has[other]
        there: Path | str = self.lakes[other]
        if how == "origin":
            theirs, there = self.origin, "origin"
        if self.waiting[name] and not theirs[1] <= self.has[name]:
            with pytest.raises(LakeError, match="unpublished work"):
                join(lake, there)
            return
        if how == "git" and not self.waiting[name]:
            merge(lake, self.lakes[other], "--no-tags")
        join(lake, there)
        self._take(name, *theirs)
        if how == "folder":
            assert join(lake, there).version is None

    def _take(self, name: str, answers: dict[str, set[Row]], commits: set[str]) -> None:
        for output, found in answers.items():
            self.answers[name].setdefault(output, set()).update(found)
        self.has[name] |= commits
        self._made(name)

    def _made(self, name: str) -> None:
        """Note what was published by the last command."""
        found = contents(self.lakes[name])
        new = set(found) - set(self.published)
        self.published |= {commit: found[commit] for commit in new}
        self.has[name] |= new
        if resolve(self.lakes[name]).commit == git(self.lakes[name], "rev-parse", "HEAD"):
            self.waiting[name] = git(self.lakes[name], "status", "--porcelain") != ""

    def _clash(self, name: str) -> bool:
        """Whether origin and the lake call different versions the same."""
        listed = git(self.lakes[name], "ls-remote", "origin", "refs/tags/lake/*").splitlines()
        there = {line.split("/")[-1]: line.split()[0] for line in listed}
        here = {version.name: version.commit for version in list_versions(self.lakes[name])}
        return any(here.get(called, commit) != commit for called, commit in there.items())

    @invariant()
    def no_answer_is_lost_or_doubled_and_every_version_is_exact(self) -> None:
        for name, lake in self.lakes.items():
            found = rows(lake)
            assert found == {output: sorted(known, key=repr) for output, known in self.answers[name].items()}
            assert in_folder(lake) == found
            assert contents(lake) == {commit: self.published[commit] for commit in self.has[name]}


@pytest.fixture(scope="module", autouse=True)
def template(parting: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("template")
    clone(shutil.copytree(parting, folder / "ours", symlinks=True), folder / "theirs")
    Histories.template = folder


Histories.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = pytest.mark.slow(Histories.TestCase)
