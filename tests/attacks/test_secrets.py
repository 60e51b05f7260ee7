"""Passwords in addresses: in no message, no exception, no log and no record."""

from __future__ import annotations

import os
import pickle
import subprocess
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from affectlake.errors import AffectlakeError, LakeError, UsageError
from affectlake.flows.prefect_server import temporary_server
from affectlake.lake import repository
from affectlake.lake.files.git import git
from affectlake.process.terminal import log
from affectlake.secrets import hide
from tests.support.lakes import put

pytestmark = pytest.mark.usefixtures("no_prefect_server")

PASSWORD = "hunter2"

ADDRESSES = {
    "http://me:hunter2@host:4200/api": "http://***@host:4200/api",
    "https://hunter2@github.com/a/b.git": "https://***@github.com/a/b.git",
    "http://me:hunter2/@x/hunter2@host/v1": "http://***@host/v1",
    "postgresql+psycopg2://me:hunter2@h/db": "postgresql+psycopg2://***@h/db",
    "'http://a:hunter2@b', then me@here": "'http://***@b', then me@here",
    "https://x/y?a=1&X-Amz-Signature=hunter2&b=2": "https://x/y?a=1&X-Amz-Signature=***&b=2",
    "https://x/y?api_key=hunter2": "https://x/y?api_key=***",
    "fatal: unable to access 'https://me:hunter2@h/r/': refused": "fatal: unable to access 'https://***@h/r/': refused",
    "http://host:80/folder@v1": "http://host:80/folder@v1",
    "s3://bucket/lake@v2 of me@here": "s3://bucket/lake@v2 of me@here",
    "me:hunter3@nowhere": "me:hunter3@nowhere",
}


@pytest.mark.parametrize("address", list(ADDRESSES))
def test_what_is_hidden_and_what_is_not(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hide(address) == ADDRESSES[address]
    assert hide(hide(address)) == hide(address)
    error = LakeError(f"summary {address}", wanted=address, found=address, allowed=address, todo=address)
    for shown in (str(error), repr(error), error.found, error.todo, str(pickle.loads(pickle.dumps(error)))):  # noqa: S301
        assert ADDRESSES[address] in shown
        assert PASSWORD not in shown
    log(address)
    assert capsys.readouterr().err == f"{ADDRESSES[address]}\n"


def affectlake(lake: Path, *arguments: str, **env: str) -> str:
    """Run a command that fails; return all that it printed."""
    command = ["affectlake", *arguments, "--lake", str(lake)]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2), done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done.stderr


def dvc(lake: Path, *arguments: str) -> None:
    subprocess.run(["dvc", *arguments], cwd=lake, check=True, capture_output=True)


@pytest.mark.parametrize("debug", [False, True])
def test_a_remote_s_password_is_not_shown(published: Path, *, debug: bool) -> None:
    dvc(published, "remote", "add", "--default", "far", "https://me:hunter2@127.0.0.1:1/lake")
    said = affectlake(published, *(["--debug"] if debug else []), "push")
    assert "127.0.0.1:1" in said


def test_git_s_own_words_are_shown_without_it(published: Path) -> None:
    git(published, "remote", "add", "origin", "http://me:hunter2@127.0.0.1:1/lake.git")
    put(published, 14)
    assert repository.publish(published) is not None
    with pytest.raises(AffectlakeError) as caught:
        git(published, "fetch", "http://me:hunter2@127.0.0.1:1/lake.git")
    assert "127.0.0.1" in str(caught.value)
    assert PASSWORD not in str(caught.value) + repr(caught.value)
    dvc(published, "remote", "add", "--default", "near", str(published.parent / "remote"))
    assert repository.commit_config(published, "Add a remote")
    assert PASSWORD not in affectlake(published, "push")


def test_mistaken_options_are_shown_without_it(published: Path) -> None:
    said = affectlake(published, "push", "--remote", "https://me:hunter2@host/x")
    assert "there is no remote 'https://***@host/x'" in said
    said = affectlake(published, "query", "SELECT 1", "--format", "https://me:hunter2@host/x")
    assert "https://***@host/x" in said
    with pytest.raises(UsageError) as caught:
        raise UsageError("no server", found="https://me:hunter2@host/x")
    assert PASSWORD not in repr(caught.value)


class _Guarded(BaseHTTPRequestHandler):
    """Answers 200 to whoever knows the password."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Basic {b64encode(b'me:hunter2').decode()}"
        self.send_response(200 if known else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_prefect_server_with_a_password_is_found() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with HTTPServer(("127.0.0.1", 0), _Guarded) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for user, known in (("me:hunter2@", True), ("", False), ("me:wrong@", False)):
            api = f"http://{user}127.0.0.1:{server.server_port}/api"
            with temporary_settings({PREFECT_API_URL: api}):
                if known:
                    with temporary_server(log):
                        pass
                else:
                    with pytest.raises(LakeError, match="no Prefect server answers"), temporary_server(log):
                        raise AssertionError("it does not let us in")
        server.shutdown()


def test_a_prefect_server_s_password_is_not_shown(tmp_path: Path) -> None:
    from tests.support.chat import ENTRY
    from tests.support.chat_lakes import make_lake

    make_lake(tmp_path / "lake", ENTRY)
    with (tmp_path / "lake/params.yaml").open("a") as handle:
        handle.write("\nschedules:\n  nightly: {agent: tiny, cron: '0 2 * * *', limit: 10}\n")
    run = ["run", "--set", "geometry.perplexity=4.0"]  # makes a stage stale: nothing else needs a server
    for arguments in (["schedule", "run"], ["--debug", "schedule", "run"], run, ["--debug", *run]):
        said = affectlake(tmp_path / "lake", *arguments, PREFECT_API_URL="http://me:hunter2@127.0.0.1:1/api")
        assert "127.0.0.1:1/api" in said
