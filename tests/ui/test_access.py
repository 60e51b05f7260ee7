"""Who may read the pages, and what they may ask: attacks from other websites, other computers and the address bar."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from affectlake.ui.access import POLICY
from tests.support.pages import TOKEN, entered, guarded, running


def test_without_the_token_nothing_is_shown(planted: Path) -> None:
    client = guarded(planted)
    for path in ("/", "/judgments", "/static/ui.css", "/frame?index=0", "/?token=wrong", "/?token="):
        answer = client.get(path)
        assert answer.status_code == 403 and "planted" not in answer.text, path
    assert client.post("/sql", content="sql=SELECT+1").status_code == 403


def test_the_address_with_the_token_sets_a_cookie_that_scripts_and_other_sites_do_not_get(planted: Path) -> None:
    client = guarded(planted)
    answer = client.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    page = client.get("/")
    assert page.status_code == 200 and TOKEN not in page.text
    assert page.headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
    assert "access-control-allow-origin" not in page.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "a@127.0.0.1", ""])
def test_another_host_is_refused(planted: Path, host: str) -> None:
    assert entered(planted).get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
def test_another_origin_is_refused(planted: Path, origin: str) -> None:
    client = entered(planted)
    assert client.get("/", headers={"origin": origin}).status_code == 403
    assert client.post("/sql", content="sql=SELECT+1", headers={"origin": origin}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_pages_can_only_be_read(planted: Path, method: str) -> None:
    assert entered(planted).request(method, "/judgments").status_code == 405


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE choices", "CREATE TABLE t AS SELECT 1", "INSERT INTO stimuli SELECT * FROM stimuli",
        "COPY (SELECT 1) TO '/tmp/written.csv'", "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')", "INSTALL httpfs", "LOAD httpfs", "ATTACH '/tmp/x.db'",
        "SET enable_external_access = true", "SELECT 1; SELECT 2", "SELECT getenv('HOME')", "PRAGMA database_list",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/sql", "/sql.csv"])
def test_sql_cannot_write_or_read_files(planted: Path, path: str, sql: str) -> None:
    answer = entered(planted).post(path, content=urlencode({"sql": sql}))
    assert answer.status_code == 400, answer.text
    assert "root:" not in answer.text


def test_a_query_that_takes_too_long_is_ended(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectlake.ui.sql.SECONDS_SHOWN", 0.3)
    sql = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range + b.range = 7"
    answer = entered(planted).post("/sql", content=urlencode({"sql": sql}))
    assert answer.status_code == 400 and "took more than 0.3 s" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/app.py",
     "/frame?index=../../params.yaml", "/frame?index=0&number=../1", "/frame?index=0&number=99",
     "/matrix?agent=../../x", "/stimulus?index=-1", "/judgments?at=../../etc"],
)  # fmt: skip
def test_paths_lead_nowhere_else(planted: Path, path: str) -> None:
    answer = entered(planted).get(path)
    is_first_frame = path.endswith("number=../1")  # not a number: the thumbnail
    assert answer.status_code == (200 if is_first_frame else 404)
    assert "study:" not in answer.text and "root:" not in answer.text


def test_the_command_listens_on_this_computer_alone(planted: Path, cache: Path) -> None:
    with running(planted, cache=cache) as address:
        assert address.startswith("http://127.0.0.1:") and "/?token=" in address
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(OSError):  # another address of this computer
            socket.create_connection(("127.0.0.2", port), 5).close()
    with running(planted, cache=cache) as again:
        assert again.partition("token=")[2] != address.partition("token=")[2]


def test_a_port_in_use_and_a_version_that_does_not_exist_are_one_message(planted: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = ["affectlake", "ui", "--lake", str(planted), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2 and "choose another --port" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*command[:4], "--at", "v9"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0 and "v9" in done.stderr
