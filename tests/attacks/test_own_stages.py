"""A user's own DVC stages and files in a lake: kept, versioned, shared, and never in the way."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from affectlake.errors import LakeError
from affectlake.lake import garbage, repository
from affectlake.lake.files import layout
from affectlake.lake.store.dvc_stages import forget_stages
from affectlake.lake.store.versions import Manifest, cached_object, list_versions, resolve
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.stored import stored
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer

FILES = {"figures/numbers.txt": "1\n", "figures/all/a.txt": "2\n", "figures/all/deep/b.txt": "3\n"}
SCRIPT = """\
import pathlib, sys
folder = pathlib.Path("figures/all/deep")
folder.mkdir(parents=True, exist_ok=True)
start = int(sys.argv[1])
pathlib.Path("figures/numbers.txt").write_text(f"{start}\\n")
(folder.parent / "a.txt").write_text(f"{start + 1}\\n")
(folder / "b.txt").write_text(f"{start + 2}\\n")
pathlib.Path("figures/score.json").write_text('{"score": 1}')
"""


def command(name: str, *arguments: str | Path, cwd: Path | None = None, ok: int = 0) -> str:
    done = subprocess.run([name, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def affectlake(*arguments: str | Path, ok: int = 0) -> str:
    return command("affectlake", *arguments, ok=ok)


def git(root: Path, *arguments: str | Path) -> str:
    return command("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments, cwd=root)


def dvc(root: Path, *arguments: str | Path, ok: int = 0) -> str:
    return command("dvc", *arguments, cwd=root, ok=ok)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built lake to which somebody added a stage of their own and a file, and ran both."""
    lake = tmp_path_factory.mktemp("own") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    (lake / "draw.py").write_text(SCRIPT)
    (lake / "own.yaml").write_text("start: 1\ntolerance: 1e-3\nanswer: yes\nwhen: 12:30\n")
    outs = ["-o", "figures/numbers.txt", "-o", "figures/all", "-M", "figures/score.json"]
    keys = ["-p", "own.yaml:start,tolerance,answer,when", "-d", "storage/tables/stimuli"]
    dvc(lake, "stage", "add", "--quiet", "-n", "draw", *outs, *keys, "python draw.py 1")
    text = (lake / "dvc.yaml").read_text().replace("  draw:\n", "  # what the paper shows\n  draw:\n")
    (lake / "dvc.yaml").write_text(f"{text}# for dvc metrics\nmetrics:\n- figures/score.json\n")
    dvc(lake, "repro", "--quiet", "--single-item", "draw")
    (lake / "survey.csv").write_text("name,age\nAda,36\n")
    dvc(lake, "add", "--quiet", "survey.csv")
    git(lake, "add", "draw.py", "own.yaml", "survey.csv.dvc", ".gitignore", "figures")
    git(lake, "commit", "--quiet", "--message", "what the paper shows")
    assert repository.publish(lake) is not None
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path) -> Path:
    return shutil.copytree(origin, tmp_path / "lake", symlinks=True)


def change(lake: Path, **keys: object) -> None:
    """Change parameters of the study, so that stages of ours are stale."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["geometry"] |= keys
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def drop_agent(lake: Path) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    del raw["agents"]["tiny"]
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def assert_theirs_stand(lake: Path) -> None:
    found = {name: (lake / name).read_text() for name in FILES}
    assert found == FILES
    assert (lake / "survey.csv").read_text() == "name,age\nAda,36\n"
    text = (lake / "dvc.yaml").read_text()
    assert "  # what the paper shows\n  draw:\n" in text
    assert "# for dvc metrics\nmetrics:\n- figures/score.json\n" in text
    stages = yaml.safe_load(text)["stages"]
    assert stages["draw"]["cmd"] == "python draw.py 1"
    assert stages["ingest"]["cmd"].startswith("affectlake step ingest ")
    assert "draw" in yaml.safe_load((lake / "dvc.lock").read_text())["stages"]
    words = dvc(lake, "status", "draw", "survey.csv")
    assert "up to date" in words, words


def test_a_run_leaves_them_as_they_are(lake: Path) -> None:
    assert_theirs_stand(lake)
    change(lake, perplexity=6.0)
    drop_agent(lake)
    built = run(lake)
    assert built.version is not None
    assert built.ran
    assert_theirs_stand(lake)
    assert run(lake).version is None, "running twice does nothing"
    assert_theirs_stand(lake)


def test_the_command_run_leaves_them_as_they_are(lake: Path) -> None:
    affectlake("run", "--no-report", "--lake", lake)
    assert_theirs_stand(lake)


def test_collecting_leaves_them_as_they_are(lake: Path, server: FaultServer) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"]["servers"] = [server.url]
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    done = collect_answers(lake, CollectionRequest("tiny", limit=150), lambda _line: None)
    assert done.version is not None
    assert_theirs_stand(lake)
    run(lake)
    assert_theirs_stand(lake)


def test_a_version_has_them_and_says_so(lake: Path) -> None:
    assert "nothing changed" in affectlake("publish", "--lake", lake)
    version = resolve(lake)
    assert "figures/all: changed (not a table)" in version.changes
    assert "draw" in yaml.safe_load(git(lake, "show", f"{version.commit}:dvc.lock"))["stages"]
    assert "draw" in yaml.safe_load(git(lake, "show", f"{version.commit}:dvc.yaml"))["stages"]
    assert set(Manifest(lake, version.commit).digests) == set(Manifest(lake, resolve(lake, "v1").commit).digests)


def test_their_own_changes_are_nobody_elses_business(lake: Path) -> None:
    (lake / "figures/numbers.txt").unlink()
    (lake / "figures/numbers.txt").write_text("by hand\n")
    shutil.rmtree(lake / "figures/all")
    change(lake, perplexity=6.0)
    assert run(lake).version is not None
    assert (lake / "figures/numbers.txt").read_text() == "by hand\n"
    assert not (lake / "figures/all").exists(), "what its owner removed is not brought back"
    affectlake("checkout", "v1", "--lake", lake)
    assert (lake / "figures/numbers.txt").read_text() == "by hand\n"


def test_a_checkout_leaves_their_files_and_says_what_brings_them(lake: Path) -> None:
    assert affectlake("checkout", "v1", "--lake", lake).count("dvc checkout") == 0, "that version has none"
    assert {name: (lake / name).read_text() for name in FILES} == FILES
    assert "draw" not in yaml.safe_load((lake / "dvc.yaml").read_text())["stages"]
    shutil.rmtree(lake / "figures/all")
    assert "`dvc checkout`" in affectlake("checkout", "latest", "--lake", lake)
    assert not (lake / "figures/all").exists()
    dvc(lake, "checkout", "--quiet", "figures/all")
    assert_theirs_stand(lake)


def objects(lake: Path) -> dict[str, list[str]]:
    """The names of the cached objects of each output of theirs."""
    stages = yaml.safe_load((lake / "dvc.lock").read_text())["stages"]
    found = {out["path"]: [out["md5"]] for out in stages["draw"]["outs"] if "score" not in out["path"]}
    found["survey.csv"] = [yaml.safe_load((lake / "survey.csv.dvc").read_text())["outs"][0]["md5"]]
    (folder,) = found["figures/all"]
    found["figures/all"] += [entry["md5"] for entry in yaml.safe_load(cached_object(lake, folder).read_text())]
    return found


def test_they_go_to_the_remote_and_come_from_it(lake: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(lake, "remote", "add", "origin", tmp_path / "origin.git")
    config = (lake / ".dvc/config").read_text().replace("../storage/remote", str(tmp_path / "files"))
    (lake / ".dvc/config").write_text(config)
    change(lake, perplexity=6.0)
    run(lake)
    affectlake("push", "--lake", lake)
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "--no-tags", tmp_path / "origin.git", other)
    affectlake("pull", "--lake", other)
    affectlake("fsck", "--lake", other)
    for path, names in objects(lake).items():
        assert all(cached_object(other, name).exists() for name in names) == (path != "survey.csv"), path
    dvc(other, "checkout", "--quiet", "draw")
    assert {name: (other / name).read_text() for name in FILES} == FILES


def test_damage_to_them_is_found_and_mended(lake: Path) -> None:
    affectlake("fsck", "--local", "--lake", lake)  # the uncached metric is not missed
    affectlake("push", "--lake", lake, ok=1)  # to its own folder: nothing is announced
    path = cached_object(lake, objects(lake)["figures/numbers.txt"][0])
    path.chmod(0o644)
    path.write_text("damaged")
    assert "figures/numbers.txt: damaged in the cache" in affectlake("fsck", "--local", "--lake", lake, ok=1)
    affectlake("checkout", "v1", "--lake", lake)  # tables are whole
    affectlake("checkout", "latest", "--lake", lake)
    affectlake("fsck", "--repair", "--lake", lake)
    assert path.read_text() == "1\n"


def test_one_that_is_lost_is_said_and_stops_no_push(lake: Path) -> None:
    path = cached_object(lake, objects(lake)["figures/numbers.txt"][0])
    path.unlink()
    assert "figures/numbers.txt, of user-defined stages: 1 files are not intact in the cache" in affectlake(
        "push", "--lake", lake, ok=1
    )


def test_none_of_them_is_ever_garbage(lake: Path) -> None:
    named = objects(lake)
    # an older one that only a branch names, one that is only staged, one that only the folder names, one of a folder
    older = {}
    for name, where in (("a.bin", "branch"), ("b.bin", "index"), ("sub/c.bin", "folder")):
        (lake / name).parent.mkdir(exist_ok=True)
        (lake / name).write_text(where)
        dvc(lake, "add", "--quiet", name)
        older[name] = yaml.safe_load((lake / f"{name}.dvc").read_text())["outs"][0]["md5"]
    git(lake, "switch", "--quiet", "--create", "side")
    git(lake, "add", "--force", "a.bin.dvc")
    git(lake, "commit", "--quiet", "--message", "a")
    git(lake, "switch", "--quiet", "main")
    git(lake, "add", "--force", "b.bin.dvc")
    (lake / "b.bin.dvc").unlink()
    shutil.rmtree(lake / "figures")
    # what the stage made before counts as well, once a commit has it
    change(lake, perplexity=6.0)
    run(lake)
    affectlake("gc", "--remove", "--lake", lake)  # young
    garbage.remove(garbage.unreferred(lake, now_s=4e9))
    for name, md5s in [*named.items(), *((name, [md5]) for name, md5 in older.items())]:
        assert all(cached_object(lake, md5).exists() for md5 in md5s), name
    dvc(lake, "checkout", "--quiet", "draw")
    affectlake("fsck", "--local", "--lake", lake)


def test_what_theirs_were_before_and_no_commit_names_is_garbage_as_ours_is(lake: Path) -> None:
    text = (lake / "dvc.yaml").read_text()
    (lake / "dvc.yaml").write_text(text.replace("draw.py 1", "draw.py 7"))
    dvc(lake, "repro", "--quiet", "--single-item", "draw")
    lost = objects(lake)["figures/numbers.txt"][0]
    (lake / "dvc.yaml").write_text(text)
    dvc(lake, "repro", "--quiet", "--single-item", "draw")
    assert lost in {one.md5 for one in garbage.unreferred(lake, now_s=4e9)}


def rewrite(lake: Path, old: str, new: str) -> None:
    text = (lake / "dvc.yaml").read_text()
    assert old in text
    (lake / "dvc.yaml").write_text(text.replace(old, new))


CLASHES = {
    "the name of one of ours": ("  draw:\n", "  embed:\n", "'embed'"),
    "an output among the tables": ("- figures/all\n", "- storage/tables/figures\n", "storage/tables/figures"),
    "an output above them": ("- figures/all\n", "- storage\n", "writes storage"),
    "a folder of its own": (
        "    outs:\n    - figures/all\n",
        "    wdir: storage\n    outs:\n    - tables/x\n",
        "tables/x",
    ),
}


@pytest.mark.parametrize("clash", list(CLASHES))
def test_a_stage_that_clashes_with_ours_is_refused_by_name(lake: Path, clash: str) -> None:
    old, new, words = CLASHES[clash]
    text = (lake / "dvc.yaml").read_text()
    if clash == "the name of one of ours":
        before = text[: text.index("  embed:\n")]
        after = text[text.index("\n  ", text.index("  embed:\n") + 20) :]
        while not after.lstrip("\n").startswith("  ") or after.lstrip("\n").startswith("   "):
            after = after[after.index("\n", 1) :]
        (lake / "dvc.yaml").write_text(before + after.lstrip("\n"))
    rewrite(lake, old, new)
    before = (lake / "dvc.yaml").read_bytes(), (lake / "dvc.lock").read_bytes()
    for act in ("publish", "render"):
        said = affectlake(act, "--lake", lake, ok=1)
        assert words in said
        assert "to do" in said
    with pytest.raises(LakeError, match=words):
        run(lake)
    assert ((lake / "dvc.yaml").read_bytes(), (lake / "dvc.lock").read_bytes()) == before


def test_a_stale_stage_of_ours_is_told_and_theirs_is_not(lake: Path) -> None:
    rewrite(lake, "python draw.py 1", "python draw.py 2")
    dvcfile.refuse_stale(lake)
    rewrite(lake, "affectlake step ingest --step-version", "affectlake step ingest --step-version 9")
    with pytest.raises(LakeError, match="is stale"):
        dvcfile.refuse_stale(lake)
    assert dvcfile.write(lake)
    dvcfile.refuse_stale(lake)
    assert "python draw.py 2" in (lake / "dvc.yaml").read_text()
    assert not dvcfile.write(lake)


@pytest.mark.parametrize(
    "text",
    [
        "{stages: {draw: {cmd: echo 1, outs: [out]}}, vars: [{x: 1}]}",
        "vars:\n- x: 1\n\n# mine\n\nstages:\n    draw:   # it draws\n        cmd: |\n          echo 1\n          # 2\n",
        "# all mine\nstages:\n  draw:\n    cmd: echo 1\n    desc: '1e-3'\n# the end\n",
        "stages:\n  a: &a\n    cmd: echo 1\n  b: *a\nplots:\n- p.json\n",
        "vars: []\nstages: {}\n",
    ],
)
def test_whatever_a_user_wrote_means_the_same_afterwards(lake: Path, text: str) -> None:
    from ruamel.yaml import YAML

    (lake / "dvc.yaml").write_text(text)
    assert dvcfile.write(lake)
    dvcfile.refuse_stale(lake)
    written = (lake / "dvc.yaml").read_text()
    was, now = (YAML(typ="safe").load(one) for one in (text, written))
    assert now | {"stages": {}} == was | {"stages": {}}
    assert {name: now["stages"][name] for name in was["stages"]} == was["stages"]
    if text[0] != "{":
        assert [line.strip() for line in text.splitlines() if line.strip().startswith("#")] == [
            line.strip() for line in written.splitlines()[2:] if line.strip().startswith("#")
        ]
    assert not dvcfile.write(lake)


def test_a_study_without_them_is_rendered_as_ever(lake: Path) -> None:
    from affectlake.pipelines.params.study import load

    (lake / "dvc.yaml").unlink()
    assert dvcfile.write(lake)
    assert (lake / "dvc.yaml").read_text() == dvcfile.render(load(lake), stored(lake))


def test_ours_are_forgotten_and_their_tables_go(lake: Path) -> None:
    stages = yaml.safe_load((lake / "dvc.lock").read_text())["stages"]
    gone = forget_stages(lake, ["ingest"])
    assert set(gone) == set(stages) - {"ingest", "draw"}
    assert set(yaml.safe_load((lake / "dvc.lock").read_text())["stages"]) == {"ingest", "draw"}
    left = {path.name for path in (lake / layout.TABLES).iterdir() if any(path.rglob("*.parquet"))}
    assert left == {"stimuli", "exclusions", "families", "ratings", "captions"}
    assert [version.name for version in list_versions(lake)] == ["v1", "v2"]
    assert repository.publish(lake) is not None
