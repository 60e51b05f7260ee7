"""Real places for a DVC remote, started by the tests: OpenSSH on loopback and an S3-compatible HTTP server.

Each can be held in the middle of a transfer, and read and written from the server's side, behind affectlake's back.
"""

from __future__ import annotations

import configparser
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from affectlake.lake.repository import commit_config

Way = Literal["push", "pull"]
SFTP_SERVERS = (Path("/usr/lib/openssh/sftp-server"), Path("/usr/libexec/openssh/sftp-server"))
BYTES_BEFORE_HOLD = {"push": 20_000, "pull": 6_000}

# after so many bytes (unbuffered: dd) through one channel, the rest is swallowed: the client waits for an answer
SFTP = """\
#!/bin/sh
here=$(dirname "$0")
byte() { dd bs=1 count=1 2>/dev/null | od -An -tx1; }
hold() { dd bs=1 count="$1" 2>/dev/null; [ -n "$(byte)" ] && : >"$here/reached"; cat >/dev/null; }
case $(cat "$here/mode") in
push) hold {push} | {server} ;;
pull) {server} | hold {pull} ;;
*) exec {server} ;;
esac
"""

SSHD = """\
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
LogLevel ERROR
Subsystem sftp {folder}/sftp
"""


class Store(Protocol):
    """A remote's content, seen from the server's side."""

    def configure(self, lake: Path) -> None:
        """Make this the default remote of `lake`."""

    def read(self, md5: str) -> bytes:
        """Return an object's bytes."""

    def write(self, md5: str, data: bytes | None) -> None:
        """Replace an object's bytes; remove it when None."""

    def names(self) -> set[str]:
        """Return the objects there are."""

    def held(self, way: Way) -> Any:
        """Stop transfers in the middle; the context is a function that waits until one has stopped."""


def configure(lake: Path, shared: dict[str, str], private: dict[str, str]) -> None:
    """Set the default remote as a user does: its address for all, committed; what is private in ``config.local``."""
    for name, settings in (("config", shared), ("config.local", private)):
        config = configparser.ConfigParser()
        config.read(lake / ".dvc" / name)
        section = "'remote \"storage\"'"
        if not config.has_section(section):
            config.add_section(section)
        config[section].update(settings)
        with (lake / ".dvc" / name).open("w") as sink:
            config.write(sink)
    commit_config(lake, "Set the remote")


class SSHStore:
    """A folder behind an OpenSSH server of its own."""

    def __init__(self, server: SSHServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def configure(self, lake: Path) -> None:
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{self.server.port}{self.folder}"
        configure(lake, {"url": url}, {"keyfile": str(self.server.folder / "user_key")})

    def path(self, md5: str) -> Path:
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]

    def read(self, md5: str) -> bytes:
        return self.path(md5).read_bytes()

    def write(self, md5: str, data: bytes | None) -> None:
        path = self.path(md5)
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)

    def names(self) -> set[str]:
        return {path.parent.name + path.name for path in self.folder.glob("files/md5/??/*")}

    @contextmanager
    def held(self, way: Way) -> Iterator[Callable[[], None]]:
        (self.server.folder / "reached").unlink(missing_ok=True)
        (self.server.folder / "mode").write_text(way)
        try:
            yield self.server.wait_until_held
        finally:
            (self.server.folder / "mode").write_text("pass")


class SSHServer:
    """An OpenSSH server on loopback with keys of its own, run by whoever runs the tests."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
        sftp = next((path for path in SFTP_SERVERS if path.exists()), None)
        if program is None or sftp is None or shutil.which("ssh-keygen") is None:
            pytest.skip("no OpenSSH server here; `apt-get install openssh-server` runs these tests")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # without it sshd does not start as root
        self.folder = folder
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        script = SFTP.replace("{server}", str(sftp))
        for way, n_bytes in BYTES_BEFORE_HOLD.items():
            script = script.replace(f"{{{way}}}", str(n_bytes))
        (folder / "sftp").write_text(script)
        (folder / "sftp").chmod(0o755)
        (folder / "mode").write_text("pass")
        (folder / "sshd_config").write_text(SSHD.format(folder=folder))
        self.port = free_port()
        command = [program, "-D", "-e", "-f", str(folder / "sshd_config"), "-p", str(self.port)]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_for(self._listens, f"sshd does not listen: {(folder / 'log').read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def wait_until_held(self) -> None:
        wait_for((self.folder / "reached").exists, "the transfer was never held")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class S3Store:
    """A bucket of an S3-compatible server (moto) that speaks HTTP on loopback."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.server = server
        self.bucket = bucket
        server.client.create_bucket(Bucket=bucket)

    def configure(self, lake: Path) -> None:
        shared = {"url": f"s3://{self.bucket}/lake", "endpointurl": self.server.url, "region": "us-east-1"}
        configure(lake, shared, {"access_key_id": "someone", "secret_access_key": "secret"})

    def key(self, md5: str) -> str:
        return f"lake/files/md5/{md5[:2]}/{md5[2:]}"

    def read(self, md5: str) -> bytes:
        data: bytes = self.server.client.get_object(Bucket=self.bucket, Key=self.key(md5))["Body"].read()
        return data

    def write(self, md5: str, data: bytes | None) -> None:
        if data is None:
            self.server.client.delete_object(Bucket=self.bucket, Key=self.key(md5))
        else:
            self.server.client.put_object(Bucket=self.bucket, Key=self.key(md5), Body=data)

    def names(self) -> set[str]:
        found = self.server.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {"".join(one["Key"].split("/")[-2:]) for one in found}

    @contextmanager
    def held(self, way: Way) -> Iterator[Callable[[], None]]:
        self.server.hold("PUT" if way == "push" else "GET", after=4)
        try:
            yield self.server.wait_until_held
        finally:
            self.server.let_go()


class S3Server:
    """moto's S3 behind a real HTTP server, which can stop answering after some requests for objects."""

    def __init__(self) -> None:
        import boto3
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._app = DomainDispatcherApplication(create_backend_app)
        self._method, self._left = "", 0
        self._reached, self._released = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == self._method and "/files/md5/" in environ["PATH_INFO"]:
            with self._lock:
                self._left -= 1
                hold = self._left < 0
            if hold:
                self._reached.set()
                self._released.wait(60)
                start("503 Service Unavailable", [])
                return [b""]
        answer: Iterable[bytes] = self._app(environ, start)
        return answer

    def hold(self, method: str, after: int) -> None:
        self._reached.clear()
        self._released.clear()
        self._method, self._left = method, after

    def let_go(self) -> None:
        self._method = ""
        self._released.set()

    def wait_until_held(self) -> None:
        assert self._reached.wait(60), "the transfer was never held"

    def stop(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(happened: Callable[[], bool], otherwise: str, limit_s: float = 60.0) -> None:
    """Return as soon as something has happened."""
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)
