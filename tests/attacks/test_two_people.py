"""Two people, one agent: each collects a share in a clone, and both end with the same lake, by real commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml

from affectlake.judge.trials.shares import Share
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.joining import join
from affectlake.pipelines.collection.publishing import Published
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.params.study import load
from affectlake.pipelines.stored import stored
from tests.attacks.two_lakes import contents, git, quiet
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake
from tests.support.fault_server import FaultServer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("two") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


class Person:
    """Somebody with a name and a clone of the lake."""

    def __init__(self, folder: Path, name: str) -> None:
        self.lake = folder / name / "lake"
        self.lake.parent.mkdir(exist_ok=True)
        names = {f"GIT_{role}_{k}": name for role in ("AUTHOR", "COMMITTER") for k in ("NAME", "EMAIL")}
        self.env = os.environ | names

    def says(self, *words: str, ok: int = 0) -> str:
        """Run affectlake in the lake; return what it printed."""
        command = ["affectlake", *words]
        done = subprocess.run(command, cwd=self.lake, env=self.env, check=False, capture_output=True, text=True)
        assert done.returncode == ok, done.stderr
        return done.stdout + done.stderr


def use(lake: Path, **entry: object) -> None:
    """Change keys of the agent's entry in params.yaml."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def test_two_people_collect_each_a_share_and_both_have_all(made: Path, tmp_path: Path, server: FaultServer) -> None:
    ann, bob = Person(tmp_path, "ann"), Person(tmp_path, "bob")
    shutil.copytree(made, ann.lake, symlinks=True)
    use(ann.lake, servers=[server.url])
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(ann.lake, "remote", "add", "origin", tmp_path / "origin.git")
    config = ann.lake / ".dvc/config"
    config.write_text(config.read_text().replace("../storage/remote", str(tmp_path / "files")))
    repository.publish(ann.lake)
    ann.says("push")
    git(tmp_path, "clone", "--quiet", tmp_path / "origin.git", bob.lake)
    bob.says("pull")
    old = contents(ann.lake)

    first = ann.says("collect", "tiny", "--share", "1/2")
    second = bob.says("collect", "tiny", "--share", "2/2")
    assert "tiny · main · share 1 of 2: +" in first
    assert "tiny · main · share 2 of 2: +" in second
    assert sum(server.asked.values()) == len(server.asked) == 435
    parted = contents(ann.lake) | contents(bob.lake)
    ann.says("push")
    refused = bob.says("push", ok=1)
    assert "affectlake join origin" in refused
    said = bob.says("join", "origin")
    name = list_versions(ann.lake)[-1].name
    assert f"your {name} is now v{int(name[1:]) + 1}: origin has another {name}" in said
    assert "responses/tiny: +" not in said
    bob.says("push")
    ann.says("pull")

    assert list_versions(ann.lake) == list_versions(bob.lake)
    assert contents(ann.lake) == contents(bob.lake)
    assert parted.items() <= contents(ann.lake).items()
    assert old.items() <= parted.items()
    for person in (ann, bob):
        rows = (
            read_output(person.lake, Output("responses", "tiny"))
            .select(pl.col("request_key").n_unique(), n=pl.len())
            .collect()
        )
        assert rows.row(0) == (435, 435)
        assert "tiny · main: 0 requests remain" in person.says("collect", "tiny", "--dry-run")
        assert "every file is as it was published" in person.says("fsck", "--local")


def clone_of(lake: Path, target: Path) -> Path:
    git(lake.parent, "clone", "--quiet", lake, target)
    shutil.copytree(lake / ".dvc/cache", target / ".dvc/cache", dirs_exist_ok=True)
    return target


def test_steps_of_a_clone_are_restored_and_not_run(made: Path, tmp_path: Path) -> None:
    bob = Person(tmp_path, "bob")
    git(tmp_path, "clone", "--quiet", made, bob.lake)
    states = [line.split()[1:3] for line in bob.says("steps").splitlines() if "stages are" not in line]
    n_stages = len(states)
    assert f"{n_stages} stages are unchanged, but their tables are not on this machine: `affectlake pull`" in bob.says(
        "steps"
    )
    shutil.copytree(made / ".dvc/cache", bob.lake / ".dvc/cache", dirs_exist_ok=True)
    said = bob.says("steps")
    assert f"{n_stages} stages are unchanged: `affectlake run` restores their tables; 0 are to run" in said
    assert said.count(" to restore ") == n_stages > 0
    raw = yaml.safe_load((bob.lake / "params.yaml").read_text())
    raw["spose"]["dimensions"] += 1
    (bob.lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert " to run " in bob.says("steps")
    git(bob.lake, "checkout", "--quiet", "params.yaml")
    assert "(0 stages run," in bob.says("run")


@pytest.mark.parametrize("command", ["run", "collect tiny", "publish", "checkout v1", "pull", "plan tiny"])
def test_commands_refuse_a_merge_by_git_until_it_is_joined(merged: tuple[Person, Person], command: str) -> None:
    assert "join them with `affectlake join`" in merged[0].says(*command.split(), ok=1)


def test_a_merge_by_git_in_conflict_is_joined(merged: tuple[Person, Person]) -> None:
    ann, bob = merged
    before = contents(ann.lake) | contents(bob.lake)
    assert "v1  " in ann.says("versions")
    assert "affectlake join FOLDER" in ann.says("join", ok=1)
    said = ann.says("join", str(bob.lake))
    assert "params.yaml differs in: agents.tiny.in_flight (ours 3, theirs 5)" in said
    assert "responses/tiny: " in said
    assert before.items() <= contents(ann.lake).items()
    assert "tiny · main" in ann.says("status")
    assert "up to date" in ann.says("steps")
    assert git(ann.lake, "status", "--porcelain") == ""


@pytest.fixture(scope="module")
def merged(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, Person]:
    """Two people who have gone on, and one of whom has merged the other's branch with Git, in conflict."""
    folder = tmp_path_factory.mktemp("merged")
    ann, bob = Person(folder, "ann"), Person(folder, "bob")
    shutil.copytree(made, ann.lake, symlinks=True)
    clone_of(ann.lake, bob.lake)
    with FaultServer(models=("tiny-llama",)).running() as server:
        for n, (person, in_flight) in enumerate([(ann, 3), (bob, 5)], start=1):
            use(person.lake, servers=[server.url], in_flight=in_flight)
            repository.publish(person.lake)
            collect_answers(person.lake, CollectionRequest("tiny", limit=30, share=Share(n, 2)), quiet)
    git(ann.lake, "fetch", "--quiet", "--no-tags", bob.lake, "main")
    env = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
    assert "CONFLICT" in git(ann.lake, *env, "merge", "FETCH_HEAD", ok=False)
    assert "<<<<<<<" in (ann.lake / "params.yaml").read_text()
    return ann, bob


def test_what_waits_here_is_published_first_and_parameters_are_said(
    made: Path, tmp_path: Path, server: FaultServer
) -> None:
    ours = shutil.copytree(made, tmp_path / "ours", symlinks=True)
    use(ours, servers=[server.url])
    repository.publish(ours)
    collect_answers(ours, CollectionRequest("tiny", limit=20), quiet)
    theirs = clone_of(ours, tmp_path / "theirs")
    raw = yaml.safe_load((theirs / "params.yaml").read_text())
    raw["agents"]["second"] = raw["agents"]["tiny"] | {"model": "tiny-llama", "l1": 0.01}
    raw["spose"]["dimensions"] = 5
    (theirs / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    repository.publish(theirs)
    collect_answers(theirs, CollectionRequest("second", limit=150), quiet)
    collect_answers(theirs, CollectionRequest("tiny", limit=120), quiet)
    waiting = CollectionRequest("tiny", limit=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("affectlake.pipelines.collection.run.publish_waiting", lambda *_: Published(0, None))
        collect_answers(ours, waiting, quiet)

    said: list[str] = []
    done = join(ours, str(theirs), "", said.append)
    assert "tiny: 30 unpublished answers are published" in said
    assert done.notes == [
        "params.yaml: their agent second is added",
        "params.yaml differs in: spose.dimensions (ours 4, theirs 5)",
    ]
    params = load(ours)
    assert set(stored(ours).fittable) == {"tiny", "second"}
    assert list(params.agents) == ["human-category", "tiny", "second"]
    tiny = read_output(ours, Output("responses", "tiny")).collect()
    assert tiny.height == tiny["request_key"].n_unique() == 20 + 120  # the 30 that waited are among the 120
    assert done.gained == {Output("responses", "second"): (150, 0), Output("responses", "tiny"): (90, 0)}
    assert join(ours, str(theirs), "", quiet).version is None
