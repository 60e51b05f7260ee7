"""Fetching from a local server that breaks the line, ignores ranges, lies, or is not there."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from affectlake.brain.recordings.fetching import COLLECTIONS, Remote, fetch
from affectlake.errors import SourceError

BYTES = bytes(range(256)) * 20_000  # 5 MB
MD5 = hashlib.md5(BYTES).hexdigest()


class Server(ThreadingHTTPServer):
    """Counts requests; `drop_after` bytes of an answer it closes the line; `ranges` says whether it heeds them."""

    daemon_threads = True
    drop_after: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(BYTES):
            self.send_error(416)
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(BYTES) - start))
        self.end_headers()
        end = len(BYTES) if self.server.drop_after is None else start + self.server.drop_after
        self.wfile.write(BYTES[start:end])
        if end < len(BYTES):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, md5: str = MD5) -> Remote:
    return Remote("s1.h5", f"http://127.0.0.1:{server.server_address[1]}/s1", md5)


def test_a_broken_line_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.drop_after = 1_500_000
    said: list[str] = []
    path = fetch(remote(server), tmp_path, said.append)
    assert path.read_bytes() == BYTES
    assert len(server.asked) >= 3
    assert server.asked[0] is None
    assert server.asked[1] == "bytes=1500000-"
    assert not (tmp_path / "s1.h5.part").exists()
    assert [line.rpartition("; ")[2] for line in said[:-1]] == ["resuming"] * (len(server.asked) - 1)  # no MB are told
    n = len(server.asked)
    fetch(remote(server), tmp_path, said.append)
    assert len(server.asked) == n  # whole and verified: nothing is asked again


def test_a_half_written_file_of_an_earlier_run_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "s1.h5.part").write_bytes(BYTES[:4_000_000])
    assert fetch(remote(server), tmp_path, lambda _: None).read_bytes() == BYTES
    assert server.asked == ["bytes=4000000-"]


def test_a_part_that_is_whole_needs_no_byte(server: Server, tmp_path: Path) -> None:
    (tmp_path / "s1.h5.part").write_bytes(BYTES)
    assert fetch(remote(server), tmp_path, lambda _: None).read_bytes() == BYTES


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "s1.h5.part").write_bytes(b"x" * 100)
    assert fetch(remote(server), tmp_path, lambda _: None).read_bytes() == BYTES


def test_other_bytes_are_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="did not return the published file"):
        fetch(remote(server, "0" * 32), tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "s1.h5").write_bytes(b"half of it")
    with pytest.raises(SourceError, match="is not the published file"):
        fetch(remote(server), tmp_path, lambda _: None)
    assert (tmp_path / "s1.h5").read_bytes() == b"half of it"


def test_no_server_is_one_message_and_keeps_what_came(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/s1"
    (tmp_path / "s1.h5.part").write_bytes(BYTES[:10])
    with pytest.raises(SourceError, match=r"cannot be fetched[\s\S]*10 bytes are kept"):
        fetch(Remote("s1.h5", url, MD5), tmp_path, (said := list[str]()).append)
    assert len([line for line in said if "resuming" in line]) == 4  # of five attempts
    assert (tmp_path / "s1.h5.part").read_bytes() == BYTES[:10]


def test_the_published_files_are_listed() -> None:
    found = COLLECTIONS["horikawa2020"]
    assert [one.name for one in found] == [f"fmri_Subject{n}.h5" for n in range(1, 6)]
    assert all(len(one.md5) == 32 and one.url.startswith("https://figshare.com/ndownloader/files/") for one in found)
