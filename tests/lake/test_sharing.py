"""Sharing from the outside: the page docs/sharing.md with two homes, what push refuses to announce, why pull fails."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from affectlake.lake import repository
from affectlake.lake.store.remote_settings import Settings
from affectlake.lake.store.remotes import open_in
from affectlake.lake.store.versions import list_versions
from tests.support.lakes import ROOT
from tests.support.stores import S3Server, SSHServer

PAGE = ROOT / "docs/sharing.md"
_BLOCK = re.compile(r"<!-- (ann|bob|both) -->\n```sh\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    server = SSHServer(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


class Person:
    """A person with a home, and nothing of anybody else's environment."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.home = name, folder / name
        self.home.mkdir()
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        names = {f"GIT_{role}_{k}": name for role in ("AUTHOR", "COMMITTER") for k in ("NAME", "EMAIL")}
        self.env = kept | names | {"HOME": str(self.home), "AWS_EC2_METADATA_DISABLED": "true"}

    def types(self, text: str, ok: int = 0, cwd: Path | None = None) -> str:
        """Run a script in the person's shell; return what it printed."""
        done = subprocess.run(
            ["bash", "-ec", text], cwd=cwd or self.home, env=self.env, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == ok, said
        assert "Traceback" not in said
        return said


@pytest.fixture
def ann(tmp_path: Path, published: Path) -> Person:
    person = Person(tmp_path, "ann")
    shutil.move(published, person.home / "emotion")
    return person


@pytest.fixture
def bob(tmp_path: Path) -> Person:
    return Person(tmp_path, "bob")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    path = tmp_path / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", path], check=True)
    return path


@pytest.fixture
def lake(ann: Person, origin: Path) -> Path:
    """Ann's lake with an origin."""
    lake = ann.home / "emotion"
    ann.types(f"git remote add origin {origin}", cwd=lake)
    return lake


def announced(origin: Path) -> str:
    return subprocess.run(["git", "ls-remote", origin], capture_output=True, text=True, check=True).stdout


def test_the_page_shares_a_lake_between_two_people(
    ann: Person, bob: Person, origin: Path, tmp_path: Path, s3_server: S3Server, ssh_server: SSHServer
) -> None:
    s3_server.client.create_bucket(Bucket="lab-data")
    here = {
        "https://git.lab.example/emotion.git": str(origin),
        "https://s3.lab.example": s3_server.url,
        "ssh://data.lab.example/srv/emotion": f"ssh://127.0.0.1{tmp_path}/srv --port {ssh_server.port}",
        "--user ann": f"--user {getpass.getuser()}",
        "--user bob": f"--user {getpass.getuser()}",
    }
    said: list[str] = []
    page = PAGE.read_text(encoding="utf-8")
    for word, real in here.items():
        page = page.replace(word, real)
    for who, text in _BLOCK.findall(page):
        people = {"ann": [ann], "bob": [bob], "both": [ann, bob]}[who]
        said += [person.types(text) for person in people]
        for person in people:
            key = person.home / ".ssh/emotion.pub"
            if key.exists():  # given to the server
                with (ssh_server.folder / "user_key.pub").open("a") as keys:
                    keys.write(key.read_text())
    first, cloned, pushed, pulled = said[2], said[3], said[6], said[7]
    assert "pushed v1, v2 to origin" in first
    assert "pushed v1, v2 to origin" in pushed
    assert re.search(r"[1-9]\d* files received", cloned)
    assert re.search(r"^lab  s3://lab-data/emotion .*\[default; committed\]", cloned, re.MULTILINE)
    assert "every file is as it was published" in pulled
    shared = (bob.home / "emotion/.dvc/config").read_text()
    assert f"port = {ssh_server.port}" in shared
    assert not re.search("keyfile|user|secret|AKIA", shared)
    assert list_versions(bob.home / "emotion") == list_versions(ann.home / "emotion")
    assert repository.publish(ann.home / "emotion") is None, "settings of remotes are no version"
    assert ann.types("git status --porcelain", cwd=ann.home / "emotion") == ""


def test_a_remote_that_is_not_committed_is_not_announced(ann: Person, lake: Path, origin: Path, tmp_path: Path) -> None:
    ann.types(f"dvc remote add --quiet --default lab {tmp_path / 'files'}", cwd=lake)
    said = ann.types("affectlake push", ok=1, cwd=lake)
    assert "a clone would not know the remote lab" in said
    assert ".dvc/config, which has changes that are not committed" in said
    assert f"`affectlake remote add lab {tmp_path / 'files'} --default`" in said
    assert announced(origin) == ""
    assert "committed" in ann.types(f"affectlake remote add lab {tmp_path / 'files'} --default", cwd=lake)
    assert "pushed v1, v2" in ann.types("affectlake push", cwd=lake)


def test_the_folder_in_the_lake_and_local_settings_are_not_for_clones(
    ann: Person, lake: Path, origin: Path, tmp_path: Path
) -> None:
    assert "is a folder of this lake, which a clone does not have" in ann.types("affectlake push", ok=1, cwd=lake)
    ann.types(f"dvc remote add --quiet --local --default mine {tmp_path / 'mine'}", cwd=lake)
    assert ".dvc/config.local only, which stays on this machine" in ann.types("affectlake push", ok=1, cwd=lake)
    ann.types(f"dvc remote remove --local mine && affectlake remote add lab {tmp_path / 'files'} --default", cwd=lake)
    ann.types(f"dvc remote modify --local lab url {tmp_path / 'elsewhere'}", cwd=lake)
    said = ann.types("affectlake push", ok=1, cwd=lake)
    assert re.search(r"a clone could not fetch it, as the remote lab .* lacks \d+ of \d+ files", said)
    assert ".dvc/config.local sets another URL on this machine" in said
    assert announced(origin) == ""
    ann.types("dvc remote modify --local --unset lab url && affectlake push", cwd=lake)
    assert "refs/tags/lake/v2" in announced(origin)


def test_without_an_origin_nothing_is_announced(ann: Person, tmp_path: Path) -> None:
    lake = ann.home / "emotion"
    ann.types(f"affectlake remote add lab {tmp_path / 'files'} --default", cwd=lake)
    said = ann.types("affectlake push", ok=1, cwd=lake)
    assert re.search(r"\d+ files were sent to the DVC remote, but no version was announced", said)
    assert "git remote add origin URL" in said
    assert list((tmp_path / "files/files/md5").rglob("*.dir"))


def test_pull_names_the_cause_and_who_can_help(
    ann: Person, bob: Person, lake: Path, origin: Path, tmp_path: Path, s3_server: S3Server
) -> None:
    ann.types("git push --quiet origin main lake/v1 lake/v2", cwd=lake)  # by plain Git: nothing is checked
    clone = bob.home / "emotion"
    bob.types(f"git clone --quiet --no-tags {origin} emotion")
    said = bob.types("affectlake pull", ok=1, cwd=clone)
    assert "storage is an empty folder of the clone" in said
    assert "who published v2 to run `affectlake remote add NAME URL --default`" in said
    files = tmp_path / "files"
    ann.types(f"affectlake remote add lab {files} --default && git push --quiet origin main", cwd=lake)
    assert "the folder of the remote lab does not exist" in bob.types("affectlake pull", ok=1, cwd=clone)
    files.mkdir()
    said = bob.types("affectlake pull", ok=1, cwd=clone)
    assert re.search(r"\d+ of \d+ files are not in the remote lab", said)
    assert "to run `affectlake push`, which sends missing files" in said
    s3_server.client.create_bucket(Bucket="private")
    ann.types(
        f"affectlake remote add far s3://private/lake --endpoint-url {s3_server.url} && "
        "affectlake remote add gone ssh://127.0.0.1/lake --port 1 && git push --quiet origin main", cwd=lake
    )  # fmt: skip
    assert "the remote gone (ssh://127.0.0.1/lake) cannot be reached" in bob.types(
        "affectlake pull --remote gone", ok=1, cwd=clone
    )
    said = bob.types("affectlake pull --remote far", ok=1, cwd=clone)
    assert "the remote far (s3://private/lake) refused access" in said
    assert "affectlake remote set far --profile PROFILE" in said
    ann.types("affectlake push", cwd=lake)
    assert "new versions: v1, v2" in bob.types("affectlake pull", cwd=clone)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("lab ssh://ann:hunter2@host/lake", "the URL contains a password or a key"),
        ("lab 'https://host/lake?token=hunter2'", "the URL contains a password or a key"),
        ("lab s4://bucket/lake", "there is no kind of remote s4://"),
        ("lab gs://bucket/lake", "`pip install dvc-gs`"),
        ("lab ann@host:/lake", "write ssh://host/lake and --user ann"),
        ("lab storage/remote2", "is in the lake's own folder"),
        ("'a b' /tmp/x", "cannot be the name of a remote"),
        ("lab ssh://host/lake --region x", "has no --region"),
        ("lab ssh://host/lake --keyfile none", "there is no file"),
        ("storage s3://bucket/lake", "the remote storage has another URL in .dvc/config"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_written(
    ann: Person, lake: Path, words: str, message: str
) -> None:
    before = (lake / ".dvc/config").read_text(), ann.types("git rev-parse HEAD", cwd=lake)
    done = subprocess.run(
        ["bash", "-c", f"affectlake remote add {words}"],
        cwd=lake, env=ann.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if "gs://" in words else 2)
    assert message in done.stderr and "hunter2" not in done.stderr
    assert ((lake / ".dvc/config").read_text(), ann.types("git rev-parse HEAD", cwd=lake)) == before


def test_what_is_a_user_s_own_stays_on_the_machine(ann: Person, lake: Path) -> None:
    (ann.home / "key").write_text("a key")
    ann.types("affectlake remote add Lab ssh://ann@host/lake --keyfile ../key --port 2222", cwd=lake)
    assert "ann" not in (lake / ".dvc/config").read_text() and "key" not in (lake / ".dvc/config").read_text()
    again = ann.types("affectlake remote add lab ssh://ann@host/lake --default", cwd=lake)
    assert "committed" in again
    assert "the lake has it already" in ann.types("affectlake remote add lab ssh://ann@host/lake --default", cwd=lake)
    (row,) = (one for one in json.loads(ann.types("affectlake remote list --json", cwd=lake)) if one["name"] == "lab")
    assert (row["url"], row["is_default"], row["is_committed"]) == ("ssh://host/lake", True, True)
    assert (row["settings"], row["own"]) == ({"port": "2222"}, ["keyfile", "user"])
    ann.types("affectlake remote remove lab", cwd=lake)
    assert [one["name"] for one in json.loads(ann.types("affectlake remote list --json", cwd=lake))] == ["storage"]
    assert "lab" not in ann.types("git show HEAD:.dvc/config; cat .dvc/config.local || true", cwd=lake)


def test_files_go_to_a_web_server_that_takes_them(tmp_path: Path) -> None:
    top, source, target = tmp_path / "www", tmp_path / "source", tmp_path / "fetched"
    top.mkdir()
    source.write_bytes(b"hello")
    md5 = hashlib.md5(b"hello", usedforsecurity=False).hexdigest()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Web, directory=str(top)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/lake"
        remote = open_in(Settings("web", {"web": {"url": url}}))
        assert remote.sizes([md5]) == {}
        remote.send({md5: source})
        assert remote.sizes([md5]) == {md5: 5}
        assert remote.fetch({md5: target}) == {md5: None}
        assert target.read_bytes() == b"hello"
    finally:
        server.shutdown()
        server.server_close()


class _Web(SimpleHTTPRequestHandler):
    """A web server that keeps what is posted to it, whole or in chunks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while n_bytes := int(self.rfile.readline(), 16):
                data += self.rfile.read(n_bytes)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers["Content-Length"]))
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""
