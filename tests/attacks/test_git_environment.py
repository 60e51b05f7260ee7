"""Who calls does not matter: hooks of other repositories, their environment, and whatever Git is set to."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import affectlake
from affectlake.errors import LakeError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files.git import environment
from affectlake.lake.fsck import check
from affectlake.lake.store.dvc_stages import is_current
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.attacks.asking_lakes import git, make_asking_lake
from tests.support.lakes import put


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_asking_lake(tmp_path_factory.mktemp("environment") / "lake")


@pytest.fixture
def asking(origin: Path, tmp_path: Path) -> Path:
    """The lake with an edit that `affectlake publish` makes a version of."""
    lake = shutil.copytree(origin, tmp_path / "asking", symlinks=True)
    with (lake / "params.yaml").open("a") as sink:
        sink.write("# looked at again\n")
    return lake


@pytest.fixture
def caller(tmp_path: Path) -> Path:
    """A repository that has nothing to do with a lake: two commits, a change not committed, another staged."""
    root = tmp_path / "caller"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", root)
    for text in ("one", "two"):
        (root / "thesis.tex").write_text(text)
        git(root, "add", "thesis.tex")
        git(root, "commit", "--quiet", "--message", text)
    (root / "thesis.tex").write_text("three")
    return root


def set_hook(folder: Path, name: str, lake: Path) -> None:
    """Let a hook publish the lake and ask it something; what came of it is noted beside the lake."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    log = lake.parent / "said"
    path.write_text(
        f"#!/bin/sh\naffectlake publish --lake '{lake}' 2>>'{log}' || exit 9\n"
        f"affectlake query 'SELECT count(*) AS n FROM stimuli' --lake '{lake}' --format csv >>'{log}' 2>&1 || exit 9\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def commit(caller: Path, hooks: Path) -> None:
    git(caller, "commit", "--quiet", "--all", "--message", "three")


def amend(caller: Path, hooks: Path) -> None:
    git(caller, "commit", "--quiet", "--amend", "--message", "two!", "--date", "2001-01-01T00:00:00Z")


def commit_in_a_work_tree(caller: Path, hooks: Path) -> None:
    other = caller.parent / "work-tree"
    git(caller, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "-b", "side", other)
    (other / "thesis.tex").write_text("four")
    git(other, "commit", "--quiet", "--all", "--message", "four")


def switch(caller: Path, hooks: Path) -> None:
    git(caller, "switch", "--quiet", "--create", "side")


def receive(caller: Path, hooks: Path) -> None:
    bare = caller.parent / "bare.git"
    git(caller.parent, "init", "--quiet", "--bare", bare)
    shutil.copytree(hooks, bare / "hooks", dirs_exist_ok=True)
    git(caller, "push", "--quiet", bare, "main")
    assert git(bare, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


CALLS: dict[str, Callable[[Path, Path], None]] = {
    "pre-commit": commit,
    "post-commit": amend,
    "prepare-commit-msg": commit_in_a_work_tree,
    "post-checkout": switch,
    "pre-receive": receive,
}


@pytest.mark.parametrize("hook", list(CALLS))
def test_a_hook_of_another_repository_makes_a_version_of_the_lake(asking: Path, caller: Path, hook: str) -> None:
    hooks = caller.parent / "hooks"
    set_hook(hooks, hook, asking)
    n_before = int(git(asking, "rev-list", "--count", "HEAD"))
    if "receive" not in hook:
        git(caller, "config", "core.hooksPath", hooks)
    CALLS[hook](caller, hooks)
    said = (asking.parent / "said").read_text()
    assert "published v2" in said, said
    assert said.endswith("n\n30\n")
    assert [v.name for v in list_versions(asking)] == ["v1", "v2"]
    made = resolve(asking)
    assert git(asking, "rev-parse", "HEAD") == made.commit
    assert int(git(asking, "rev-list", "--count", "HEAD")) == n_before + 1
    assert git(asking, "status", "--porcelain") == ""
    assert made.author == "affectlake"
    assert not made.created.startswith("2001")
    assert "lake" not in git(caller, "for-each-ref", "--format=%(refname)")
    assert git(caller, "ls-tree", "-r", "--name-only", "HEAD") == "thesis.tex"
    assert "publish" not in git(caller, "log", "--all", "--format=%B")
    assert git(caller, "fsck", "--no-dangling") == ""


def test_no_variable_of_a_repository_reaches_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    local = git(tmp_path, "rev-parse", "--local-env-vars").split()
    names = [*local, "GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"]
    for name in names:
        monkeypatch.setenv(name, "x")
    left = environment()
    assert {name for name in names if left.get(name) == "x"} == set()
    assert environment({"GIT_INDEX_FILE": "mine"})["GIT_INDEX_FILE"] == "mine"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "of the caller's commit")
    assert "GIT_AUTHOR_NAME" not in environment()
    for name in names:
        monkeypatch.delenv(name)
    assert environment()["GIT_AUTHOR_NAME"], "a user's own"


def test_the_library_in_a_hook_leaves_the_process_as_it_was(
    published: Path, caller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"GIT_DIR": str(caller / ".git"), "GIT_WORK_TREE": str(caller), "GIT_INDEX_FILE": ".git/index"}
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    put(published, 14)
    made = repository.publish(published)
    assert made is not None
    assert affectlake.open(published).table("stimuli").collect().height == 14
    assert is_current(published, "tiny")
    assert {name: os.environ[name] for name in theirs} == theirs
    for name in theirs:
        monkeypatch.delenv(name)
    assert git(published, "rev-parse", "HEAD") == made.commit
    assert git(caller, "ls-files") == "thesis.tex"


SETTINGS = """\
[commit]
    gpgsign = true
[tag]
    gpgsign = true
    forceSignAnnotated = true
[gpg]
    program = /bin/false
[core]
    autocrlf = true
    safecrlf = true
    quotePath = true
    hooksPath = /nowhere
    whitespace = cr-at-eol
    logAllRefUpdates = always
[i18n]
    commitEncoding = ISO-8859-1
    logOutputEncoding = UTF-16
[log]
    showSignature = true
    date = relative
    decorate = full
[status]
    short = true
    branch = true
    showUntrackedFiles = no
    relativePaths = false
[color]
    ui = always
    status = always
[push]
    default = nothing
    followTags = true
[fetch]
    prune = true
    pruneTags = true
    fsckObjects = true
[transfer]
    fsckObjects = true
[alias]
    add = !false
    show = !false
    reset = !false
[column]
    ui = always
[pager]
    tag = true
[diff]
    noprefix = true
    external = /bin/false
[user]
    name = Zoë
    email = zoe@example.org
"""


def test_versions_do_not_depend_on_how_git_is_set(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = published / ".dvc/config"
    config.write_text(config.read_text().replace("../storage/remote", str(tmp_path / "files")))
    plain = shutil.copytree(published, tmp_path / "plain")
    put(plain, 14)
    repository.publish(plain)
    settings = tmp_path / "gitconfig"
    settings.write_text(SETTINGS)
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("GIT_GLOB_PATHSPECS", "1")
    git(published, "remote", "add", "origin", tmp_path / "origin.git")
    put(published, 14)
    made = repository.publish(published)
    assert made is not None
    assert made.author == "Zoë"
    assert git(published, "rev-parse", "lake/v3^{tree}") == git(plain, "rev-parse", "lake/v3^{tree}")
    push(published, list_versions(published))
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "--no-tags", tmp_path / "origin.git", other)
    assert pull(other).versions == ["v1", "v2", "v3"]
    for name in ("v1", "latest"):
        checkout(other, resolve(other, name))
    assert repository.publish(other) is None, "the line ends of this clone are no change"
    assert list_versions(other) == list_versions(published)
    assert [finding for version in list_versions(other) for finding in check(other, version, repair=False)] == []


def test_a_version_holds_the_bytes_of_the_folder_or_is_not_made(published: Path) -> None:
    (published / ".gitattributes").write_text("params.yaml ident\n")
    (published / "params.yaml").write_text("study: tiny  # $Id: mine$\n")
    with pytest.raises(LakeError, match=r"Git would store other bytes for params\.yaml"):
        repository.publish(published)
    assert len(list_versions(published)) == 2
    with (published / ".gitattributes").open("a") as sink:
        sink.write("/params.yaml -filter -ident -working-tree-encoding\n")
    made = repository.publish(published)
    assert made is not None
    assert git(published, "cat-file", "blob", f"{made.commit}:params.yaml") == "study: tiny  # $Id: mine$"


def test_a_parameter_file_with_windows_line_ends_is_published_and_restored(
    published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[core]\n autocrlf = input\n safecrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (published / "params.yaml").write_bytes(b"study: tiny\r\nseed: 5\r\n")
    assert repository.publish(published) is not None
    checkout(published, resolve(published, "v1"))
    checkout(published, resolve(published))
    assert (published / "params.yaml").read_bytes() == b"study: tiny\nseed: 5\n"
    assert repository.publish(published) is None


def test_paths_are_not_patterns(lakes: dict[str, Path], tmp_path: Path) -> None:
    lake = shutil.copytree(lakes["published"], tmp_path / "[x]*" / ":(top)" / "lake")
    (lake / "params.yaml").write_text("study: tiny\nseed: 5\n")
    made = repository.publish(lake)
    assert made is not None
    assert git(lake, "diff", "--name-only", "HEAD~1", "HEAD") == "params.yaml"
    assert git(lake, "status", "--porcelain") == ""
