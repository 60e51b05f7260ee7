"""What is tried against a real server: each is refused with a status and a code, counted, and logged without data."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from affectlake.experiment.access import POLICY
from affectlake.experiment.server import make_links
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.simulated import Habits, SimulatedParticipant, at_random
from tests.experiment.serving import Served
from tests.experiment.worlds import contents

Reply = tuple[int, Any]


class Browser:
    """Requests to a server, one connection each."""

    def __init__(self, served: Served) -> None:
        self.served, self.token = served, served.url.partition("=")[2]

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=10)
        with closing(connection):
            connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in (headers or {}):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()

    def post(self, name: str, body: Any, **headers: str) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, content = self.raw("POST", f"/api/{name}", data, {"Content-Type": "application/json"} | headers)
        return status, json.loads(content)

    def join(self, **given: Any) -> dict[str, str]:
        status, found = self.post("join", {"study": self.token, "language": "en"} | given)
        assert status == 200, found
        return {"participant": found["participant"], "secret": found["secret"]}

    def running(self, n: int = 3) -> tuple[dict[str, str], list[dict[str, Any]]]:
        who = self.join()
        assert self.post("consent", who) == (200, {"state": "running"})
        status, found = self.post("trials", who | {"n": n})
        assert status == 200
        return who, found["trials"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with Served(folder, offer={"n": 12, "m": 200}, media=True, settings={"panel": "PROLIFIC_PID"}) as found:
        yield found


@pytest.fixture
def browser(served: Served) -> Browser:
    return Browser(served)


def refused(reply: Reply, status: int, code: str) -> None:
    assert reply[0] == status and reply[1]["error"] == code and reply[1]["message"], reply


BAD = [
    b"", b"null", b"[]", b"{", b'"text"', b"\xff\xfe", b'{"n": NaN}', b'{"n": 1e999}', b"[" * 60_000, b'{"a":' * 10_000,
    b'{"study": 5}', b'{"study": {}}', b'{"study": ""}', b'{"study": "\\u0000"}', b'{"study": "\\ud800"}', b"{}",
]  # fmt: skip


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("name", ["join", "consent", "trials", "answers", "end"])
def test_bodies_that_make_no_sense(browser: Browser, name: str, body: bytes) -> None:
    refused(browser.post(name, body), 400, "bad_request")


@pytest.mark.parametrize(
    "answer",
    [
        None, 1, [], {}, {"number": 1}, {"number": "1", "position": 1}, {"number": True, "position": 1},
        {"number": 1.0, "position": 1}, {"number": 0, "position": 1}, {"number": -1, "position": 1},
        {"number": 10**30, "position": 1}, {"number": 2**63, "position": 1}, {"number": 1, "position": 0},
        {"number": 1, "position": 4}, {"number": 1, "position": "1"}, {"number": 1, "position": True},
        {"number": 1, "position": None}, {"number": 1, "position": 1, "reason": "timed_out"},
        {"number": 1, "reason": "<script>"}, {"number": 1, "reason": ["timed_out"]},
        {"number": 1, "reason": "cannot_tell"},
        {"number": 1, "position": 1, "response_ms": -1}, {"number": 1, "position": 1, "response_ms": "500"},
        {"number": 1, "position": 1, "response_ms": 1e300}, {"number": 1, "position": 1, "response_ms": True},
        {"number": 1, "position": 1, "detail": 5}, {"number": 1, "position": 1, "detail": {"a": []}},
    ],
)  # fmt: skip
def test_answers_that_make_no_sense(browser: Browser, answer: Any, served: Served) -> None:
    who, _ = browser.running()
    refused(browser.post("answers", who | {"answers": [answer]}), 400, "bad_request")
    refused(browser.post("answers", who | {"answers": [{"number": 1, "position": 1}, answer]}), 400, "bad_request")
    with closing(sqlite3.connect(served.store)) as database:
        assert not database.execute("SELECT * FROM answers WHERE participant = ?", (who["participant"],)).fetchall()


@pytest.mark.parametrize("n", [None, 0, -1, 51, 1.5, "3", True, 10**40])
def test_a_number_of_trials_that_makes_no_sense(browser: Browser, n: Any) -> None:
    who, _ = browser.running()
    refused(browser.post("trials", who | {"n": n}), 400, "bad_request")


def test_too_many_answers_at_once(browser: Browser) -> None:
    who, _ = browser.running()
    refused(browser.post("answers", who | {"answers": [{"number": 1, "position": 1}] * 201}), 400, "bad_request")
    refused(browser.post("answers", who | {"answers": []}), 400, "bad_request")


def test_bodies_that_are_too_large(browser: Browser) -> None:
    large = json.dumps({"study": "x" * 70_000}).encode()
    refused(browser.post("join", large), 413, "too_large")
    refused(browser.post("join", b"{}", **{"Content-Length": "99999999999999999999"}), 413, "too_large")
    status, _, content = browser.raw("POST", "/api/join", b"{}", {"Content-Length": "100000000"})
    assert status == 413 and b"too_large" in content
    chunked = b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(6)) + b"0\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", browser.served.port))) as one:
        one.sendall(b"POST /api/join HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)
        assert b" 413 " in one.recv(4096)


def test_headers_that_are_too_large_or_broken(browser: Browser) -> None:
    for head in (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000,
        b"\x00\x01 nonsense\r\n\r\n",
        b"GET /\r\n",
    ):
        with closing(socket.create_connection(("127.0.0.1", browser.served.port))) as one:
            one.settimeout(5)
            try:
                one.sendall(head + b"\r\n\r\n")
                reply = one.recv(4096)
            except ConnectionError:
                reply = b""
            assert not reply or b" 400 " in reply.partition(b"\r\n")[0] or b" 431 " in reply.partition(b"\r\n")[0]
    assert browser.raw("GET", "/")[0] == 200


def test_wrong_tokens_secrets_and_states(browser: Browser) -> None:
    who, trials = browser.running()
    other, _ = browser.running()
    for token in ("wrong", browser.token[:-1], browser.token + "x", "é"):
        refused(browser.post("join", {"study": token}), 403, "bad_token")
    refused(browser.post("join", {"link": "unknown"}), 403, "bad_token")
    refused(browser.post("join", {"study": browser.token, "link": "x"}), 400, "bad_request")
    refused(browser.post("join", {"study": browser.token, "secret": "short"}), 400, "bad_request")
    for forged in (
        {"secret": "x" * 43}, {"secret": other["secret"]}, {"participant": "a' OR '1'='1"}, {"participant": "unknown"},
        {"participant": other["participant"]},
    ):  # fmt: skip
        for name, body in (
            ("trials", {"n": 3}), ("answers", {"answers": [{"number": 1, "position": 1}]}), ("consent", {}),
            ("end", {"how": "withdrawn"}), ("join", {"study": browser.token}),
        ):  # fmt: skip
            refused(browser.post(name, who | forged | body), 403, "unknown_participant")
    number = trials[-1]["number"]
    refused(browser.post("answers", who | {"answers": [{"number": number + 1, "position": 1}]}), 409, "not_your_trial")
    assert browser.post("end", who | {"how": "done"})[1]["state"] == "running"
    refused(browser.post("end", who | {"how": "paid"}), 400, "bad_request")
    refused(browser.post("trials", browser.join() | {"n": 1}), 409, "no_consent")


def test_a_replayed_answer_changes_nothing(browser: Browser, served: Served) -> None:
    who, trials = browser.running(1)
    number = trials[0]["number"]
    for position in (2, 3, 1):
        status, found = browser.post("answers", who | {"answers": [{"number": number, "position": position}]})
        assert (status, found["stored"]) == (200, [number])
    with closing(sqlite3.connect(served.store)) as database:
        rows = database.execute("SELECT position FROM answers WHERE participant = ?", (who["participant"],)).fetchall()
    assert rows == [(2,)]


def test_a_link_is_used_once(browser: Browser, served: Served) -> None:
    links = make_links(served.store, "http://127.0.0.1/", 2)
    token = links[0].partition("?link=")[2]
    status, found = browser.post("join", {"link": token, "secret": "s" * 43})
    assert status == 200
    again = browser.post("join", {"link": token, "secret": "s" * 43})[1]
    assert (again["participant"], again["resumed"]) == (found["participant"], True)
    refused(browser.post("join", {"link": token, "secret": "t" * 43}), 403, "used_link")
    refused(browser.post("join", {"link": token}), 403, "used_link")


def test_text_of_a_participant_is_kept_as_text(browser: Browser, served: Served) -> None:
    who, trials = browser.running(1)
    detail = "<script>alert(1)</script>\x00\n\u202e'; DROP TABLE answers; --" + "x" * 500
    answer = {"number": trials[0]["number"], "reason": "media_failed", "detail": detail, "position": None}
    assert browser.post("answers", who | {"answers": [answer]})[0] == 200
    with closing(sqlite3.connect(served.store)) as database:
        query = "SELECT detail FROM answers WHERE participant = ?"
        kept = database.execute(query, (who["participant"],)).fetchone()[0]
    assert len(kept) == 200 and kept.isprintable() and kept.startswith("<script>alert(1)</script>")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"}, {"Host": ""}, {"Host": "127.0.0.1.evil.example"}, {"Host": "a@127.0.0.1"},
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}, {"Sec-Fetch-Site": "cross-site"},
        {"Host": "192.168.0.1"},
    ],
)  # fmt: skip
def test_other_names_and_pages_of_other_websites(browser: Browser, headers: dict[str, str]) -> None:
    status, found, content = browser.raw("POST", "/api/join", b"{}", headers)
    assert status == 403 and json.loads(content)["error"] == "bad_origin"
    assert "access-control-allow-origin" not in found


def test_behind_a_proxy(tmp_path: Path) -> None:
    with Served(tmp_path, offer={"n": 12, "m": 20}, public_url="https://study.example/lab") as served:
        browser = Browser(served)
        assert served.url.startswith("https://study.example/lab/?study=")
        own = {"Host": "study.example", "Origin": "https://study.example"}
        assert browser.post("join", {"study": browser.token}, **own)[0] == 200
        assert browser.post("join", {"study": browser.token}, Origin="https://study.example")[0] == 200
        for wrong in ("http://study.example", "https://study.example:8443", "https://evil.example"):
            status = browser.raw("POST", "/api/join", b"{}", {"Host": "127.0.0.1", "Origin": wrong})[0]
            assert status == 403, wrong
        assert browser.raw("GET", "/", headers={"Host": "other.example", "X-Forwarded-Host": "study.example"})[0] == 403


PATHS = [
    "/media/../../etc/passwd", "/media/..%2f..%2fetc%2fpasswd", "/media/%2e%2e/x", "/static/../app.py",
    "/static/..%2fapp.py",
    "/static//etc/passwd", "/jspsych/..%2f..%2fapp.py", "/media/x", "/experiment.sqlite", "/media/experiment.sqlite",
    "/media/0.mp4", "/.git/config", "/static/", "/media/", "//evil.example/", "/api/", "/api/join/", "/docs",
    "/openapi.json", "/static/%00", "/media/" + "a" * 64 + ".mp4", "/static/page.js/",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_other_files(browser: Browser, path: str) -> None:
    status, _, content = browser.raw("GET", path)
    assert status == 404 and json.loads(content)["error"] == "not_found", (status, content)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods(browser: Browser, method: str) -> None:
    for path in ("/", "/api/join", "/static/page.js"):
        assert browser.raw(method, path)[0] == 405
    assert browser.raw("GET", "/api/join")[0] == 405


def test_media(browser: Browser, served: Served) -> None:
    _, trials = browser.running(1)
    shown = trials[0]["stimuli"][0]
    path = f"/{shown['media']['url']}"
    file = served.folder / f"{shown['id_key']}.mp4"
    whole = file.read_bytes()
    status, headers, content = browser.raw("GET", path)
    assert (status, content) == (200, whole)
    assert headers["content-type"] == "video/mp4" and "immutable" in headers["cache-control"]
    assert headers["x-content-type-options"] == "nosniff" and headers["accept-ranges"] == "bytes"
    assert headers["etag"] == f'"{shown["media"]["sha256"]}"'
    status, headers, content = browser.raw("GET", path, headers={"Range": "bytes=0-1"})  # an iPhone's first question
    assert (status, content, headers["content-range"]) == (206, whole[:2], f"bytes 0-1/{len(whole)}")
    status, headers, content = browser.raw("GET", path, headers={"Range": "bytes=500-"})
    assert (status, content) == (206, whole[500:])
    assert browser.raw("GET", path, headers={"Range": "bytes=-10"})[2] == whole[-10:]
    assert browser.raw("GET", path, headers={"Range": f"bytes={len(whole)}-"})[0] == 416
    many = ",".join(f"{2 * at}-{2 * at}" for at in range(400))
    assert browser.raw("GET", path, headers={"Range": f"bytes={many}"})[0] in {200, 206, 400, 416}
    status, headers, content = browser.raw("HEAD", path)
    assert (status, content, headers["content-length"]) == (200, b"", str(len(whole)))
    try:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # the same size
        assert browser.raw("GET", path)[0] == 404
        file.unlink()
        file.symlink_to("/etc/passwd")
        assert browser.raw("GET", path)[0] == 404
        file.unlink()
        other = served.folder / "copy"
        other.write_bytes(whole)
        file.symlink_to(other)
        assert browser.raw("GET", path)[0] == 404
        file.unlink()
        assert browser.raw("GET", path)[0] == 404
        os.mkfifo(file)
        assert browser.raw("GET", path)[0] == 404
    finally:
        file.unlink(missing_ok=True)
        file.write_bytes(whole)
    assert browser.raw("GET", path)[0] == 200


def test_every_answer_forbids_what_is_foreign(browser: Browser) -> None:
    for method, path in (("GET", "/"), ("GET", "/static/page.js"), ("POST", "/api/join"), ("GET", "/nothing")):
        _, headers, _ = browser.raw(method, path, b"{}" if method == "POST" else None)
        assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY and "http" not in POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers and "set-cookie" not in headers


def test_too_many_requests_of_one_participant(browser: Browser) -> None:
    who, _ = browser.running()
    other, _ = browser.running()
    statuses = [browser.post("trials", who | {"n": 1})[0] for _ in range(150)]
    assert statuses.count(429) > 10 and statuses[0] == 200
    assert browser.post("trials", other | {"n": 1})[0] == 200


def test_forgetting_beside_the_server(browser: Browser, served: Served) -> None:
    who, _ = browser.running()
    with SessionStore(served.store) as store:
        assert store.forget(who["participant"])
    refused(browser.post("answers", who | {"answers": [{"number": 1, "position": 1}]}), 403, "unknown_participant")
    refused(browser.post("trials", who | {"n": 1}), 403, "unknown_participant")
    with closing(sqlite3.connect(served.store)) as database:
        for table in ("participants", "given", "answers"):
            query = f"SELECT count(*) FROM {table} WHERE participant = ?"
            assert database.execute(query, (who["participant"],)).fetchone() == (0,)


def test_a_second_server_on_the_same_store_is_refused(tmp_path: Path) -> None:
    with Served(tmp_path, offer={"n": 12, "m": 20}):
        second = Served(tmp_path, offer={"n": 12, "m": 20})
        with pytest.raises(AssertionError, match="another process serves people"):
            second.start()
        second.stop()


def test_the_log_has_counts_and_nothing_of_who_asked(tmp_path: Path) -> None:
    with Served(tmp_path, offer={"n": 12, "m": 20}, settings={"panel": "PROLIFIC_PID"}) as served:
        browser = Browser(served)
        agent = {"User-Agent": "Spy/77.7"}
        who = browser.join(panel="5f3cpanelid")
        for _ in range(3):
            browser.post("join", {"study": "wrongtoken"}, **agent)
        browser.post("trials", who | {"n": 0}, **agent)
        browser.raw("GET", "/nothing-77", headers=agent)
        browser.raw("GET", "/", headers={"Host": "evil.example"})
    log = (tmp_path / "log").read_text()
    assert "refused: bad_origin 1, bad_request 1, bad_token 3, not_found 1" in log
    for hidden in (
        "127.0.0.1",
        "Spy",
        "wrongtoken",
        "5f3cpanelid",
        "nothing-77",
        "evil",
        who["participant"],
        who["secret"],
    ):
        assert hidden not in log, hidden
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for hidden in ("127.0.0.1", "Spy/77.7", "5f3cpanelid", who["secret"]):
        assert hidden.encode() not in kept, hidden


def test_a_panel_is_one_person_from_everywhere(browser: Browser) -> None:
    one, two = browser.join(panel="abc"), browser.join(panel="abc")
    assert one == two and re.fullmatch("[a-z2-7]{16}", one["participant"])
    assert browser.join(panel="abd")["participant"] != one["participant"]


def test_captions_are_sent_as_they_are(served: Served, browser: Browser) -> None:
    _, trials = browser.running(1)
    shown = trials[0]["stimuli"][0]
    assert shown["caption"] == contents(12).captions[int(shown["id_key"])]


def test_a_simulated_participant_completes(served: Served) -> None:
    async def test() -> None:
        async with aiohttp.ClientSession() as http:
            outcome = await SimulatedParticipant(http, served.url, at_random(1), 1, Habits(resend=0.2, drop=0.2)).run()
        assert outcome.state == "done" and outcome.acknowledged == set(outcome.sent) and len(outcome.sent) == 27

    asyncio.run(test())
