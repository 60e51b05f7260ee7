"""What publishing would refuse is refused before the first question of a collection is sent, and before a build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from affectlake.errors import LakeError
from affectlake.flows.build import build
from affectlake.lake import repository
from affectlake.lake.preflight import refuse_unpublishable
from affectlake.lake.store.dvc_secrets import secret_keys
from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.collection.publishing import prepare_to_publish, waiting
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from tests.attacks.asking_lakes import called, change, git, make_asking_lake
from tests.support.fault_server import FaultServer

SECRET = "hunter-2-of-the-tests"


def quiet(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_asking_lake(tmp_path_factory.mktemp("preflight") / "lake")


@pytest.fixture
def asking(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "asking", symlinks=True)
    change(lake, servers=[server.url])
    return lake


def detach(lake: Path) -> None:
    git(lake, "switch", "--quiet", "--detach")


def merge(lake: Path) -> None:
    git(lake, "switch", "--quiet", "--create", "side")
    for branch in ("side", "main"):
        git(lake, "switch", "--quiet", branch)
        (lake / "notes.md").write_text(branch)
        git(lake, "add", "notes.md")
        git(lake, "commit", "--quiet", "--message", "notes", "notes.md")
    done = called("git", "-c", "user.name=a", "-c", "user.email=a@b", "merge", "side", cwd=lake)
    assert done.returncode == 1


def rebase(lake: Path) -> None:
    git(lake, "commit", "--quiet", "--all", "--message", "another server")
    merge(lake)
    git(lake, "merge", "--abort")
    assert called("git", "-c", "user.name=a", "-c", "user.email=a@b", "rebase", "side", cwd=lake).returncode == 1


def link_params(lake: Path) -> None:
    (lake / "params.yaml").rename(lake.parent / "elsewhere.yaml")
    (lake / "params.yaml").symlink_to(lake.parent / "elsewhere.yaml")


def link_storage(lake: Path) -> None:
    (lake / "storage").rename(lake.parent / "storage")
    (lake / "storage").symlink_to(lake.parent / "storage")


def filter_params(lake: Path) -> None:
    (lake / ".gitattributes").write_text("*.yaml filter=shout\n")
    git(lake, "config", "filter.shout.clean", "tr a-z A-Z")


def add_a_password(lake: Path) -> None:
    with (lake / ".dvc/config").open("a") as sink:
        sink.write(f"    password = {SECRET}\n")


def leave_a_lock(lake: Path) -> None:
    (lake / ".git/refs/heads/main.lock").touch()


def take_the_tag(lake: Path) -> None:
    path = lake / ".git/refs/tags/lake/v2"
    path.mkdir()
    (path / "half.lock").touch()


def be_nobody(lake: Path) -> None:
    git(lake, "config", "user.email", "ada@example.org")
    git(lake, "config", "user.name", "<>")


def fill_the_cache(lake: Path) -> None:
    shutil.rmtree(lake / ".dvc/cache/files/md5")
    (lake / ".dvc/cache/files/md5").write_text("a file in its place")


def fill_staging(lake: Path) -> None:
    shutil.rmtree(lake / "storage/staging", ignore_errors=True)
    (lake / "storage/staging").symlink_to("/nowhere/at/all")


STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "detached": (detach, r"at a detached commit"),
    "merge": (merge, r"(?s)not joined yet.*affectlake join.*git merge --abort"),
    "rebase": (rebase, r"(?s)at a detached commit.*git rebase --continue"),
    "a link": (link_params, r"params\.yaml is a symbolic link"),
    "a link in the way": (link_storage, r"beyond a symbolic link"),
    "a filter": (filter_params, r"Git would store other bytes"),
    "a password": (add_a_password, r"\.dvc/config contains secrets"),
    "a lock": (leave_a_lock, r"(?s)holds a Git lock.*main\.lock"),
    "the tag": (take_the_tag, r"v2"),
    "no identity": (be_nobody, r"name consists only of disallowed characters|empty ident"),
    "no cache": (fill_the_cache, r"cannot be written to"),
    "no staging": (fill_staging, r"cannot be written to"),
}


@pytest.mark.parametrize("state", list(STATES))
def test_nothing_is_asked_that_could_not_be_published(asking: Path, server: FaultServer, state: str) -> None:
    spoil, words = STATES[state]
    spoil(asking)
    with pytest.raises(LakeError, match=words) as caught:
        collect_answers(asking, CollectionRequest("tiny", limit=5), quiet)
    assert SECRET not in str(caught.value)
    assert dict(server.asked) == {}
    assert waiting(asking, "tiny") == []
    said: list[str] = []
    with pytest.raises(LakeError, match=words):
        build(asking, said.append)
    assert said == []
    assert [v.name for v in list_versions(asking)] == ["v1"]


def test_a_lake_that_is_well_is_asked_and_nothing_is_left_behind(asking: Path, server: FaultServer) -> None:
    before = git(asking, "status", "--porcelain", "--ignored"), git(asking, "for-each-ref")
    refuse_unpublishable(asking)
    assert (git(asking, "status", "--porcelain", "--ignored"), git(asking, "for-each-ref")) == before
    assert list((asking / ".git").rglob("*.lock")) == []
    assert collect_answers(asking, CollectionRequest("tiny", limit=5), quiet).n_added == 5
    assert server.asked


def test_settings_that_are_no_obstacle_are_none(asking: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[core]\n autocrlf = input\n safecrlf = true\n excludesFile = /dev/null\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    text = (asking / "params.yaml").read_bytes().replace(b"\n", b"\r\n")
    (asking / "params.yaml").write_bytes(text)
    (asking / ".git/info").mkdir(exist_ok=True)
    (asking / ".git/info/exclude").write_text("*.yaml\n*.dvc\n")
    git(
        asking, "sparse-checkout", "set", "--no-cone", "/params.yaml", "/dvc.yaml", "/dvc.lock", "/.dvc/", "/.gitignore"
    )
    assert collect_answers(asking, CollectionRequest("tiny", limit=5), quiet).version is not None
    assert "storage/format" in git(asking, "ls-tree", "-r", "--name-only", "HEAD").splitlines()


def test_a_disk_without_room_is_told_first(origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        lake = shutil.copytree(origin, place / "lake", symlinks=True)
        with pytest.raises(LakeError, match=r"(?s)not enough space.*64 MiB"):
            prepare_to_publish(lake, "tiny", quiet)
        assert list_versions(lake)[-1].name == "v1"
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


READ_ONLY = """
set -e
mount --bind "$2" "$2"
mount -o remount,ro,bind "$2"
"$3" -c "import sys, pathlib
import affectlake.pipelines.collection.publishing as j
j.prepare_to_publish(pathlib.Path(sys.argv[1]), 'tiny', print)" "$1"
"""


@pytest.mark.parametrize("folder", [".git", ".dvc/cache", "storage/collected"])
def test_a_folder_that_is_read_only_is_told_first(asking: Path, folder: str) -> None:
    can = shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    if os.geteuid() != 0 or not can or can.returncode:
        pytest.skip("only root can mount a folder read-only")
    done = called("unshare", "-m", "sh", "-c", READ_ONLY, "sh", asking, asking / folder, sys.executable)
    assert done.returncode == 1, done.stderr
    assert f"LakeError: {asking} cannot be written to" in done.stderr


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["password = x"], ["password"]),
        (["ask_password = true", "user = ada", "keyfile = ~/.ssh/id"], []),
        (["secret_access_key = x", "access_key_id = y"], ["secret_access_key"]),
        (["session_token = x"], ["session_token"]),
        (["account_key = x", "account_name = y"], ["account_key"]),
        (["sas_token = x"], ["sas_token"]),
        (["connection_string = x"], ["connection_string"]),
        (["oss_key_secret = x", "oss_key_id = y"], ["oss_key_secret"]),
        (["client_secret = x"], ["client_secret"]),
        (["endpointurl = https://ada:pw@host/"], ["endpointurl"]),
        (["endpointurl = https://ada@host:9000/a@b"], []),
        (["proxy = https://host/?sig=abc"], ["proxy"]),
        (["sse_kms_key_id = x", "password ="], []),
    ],
)
def test_settings_that_hold_secrets_are_told_from_those_that_do_not(
    lake: Path, lines: list[str], found: list[str]
) -> None:
    with (lake / ".dvc/config").open("a") as sink:
        sink.writelines(f"    {line}\n" for line in lines)
    assert secret_keys(lake) == [('remote "storage"', name) for name in found]


def test_the_remedy_for_a_password_leads_on(asking: Path) -> None:
    git(asking, "restore", "params.yaml")
    (asking / ".dvc/config").write_text(
        (asking / ".dvc/config").read_text().replace("../storage/remote", f"ssh://ada:{SECRET}@host/lake")
    )
    with (asking / "params.yaml").open("a") as sink:
        sink.write("# changed\n")
    done = called("affectlake", "publish", "--lake", asking)
    assert done.returncode == 1
    assert "dvc remote modify --local storage url" in done.stderr
    assert SECRET not in done.stderr
    assert SECRET not in called("git", "log", "--all", "-p", cwd=asking).stdout
    called("dvc", "remote", "modify", "storage", "url", "ssh://ada@host/lake", cwd=asking)
    called("dvc", "remote", "modify", "--local", "storage", "url", f"ssh://ada:{SECRET}@host/lake", cwd=asking)
    assert repository.publish(asking) is not None
    assert SECRET not in called("git", "log", "--all", "-p", cwd=asking).stdout
