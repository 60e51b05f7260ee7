"""The pilot of docs/experiments.md, from `init` to the report, line by line; and its proxy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest

from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.stored import known_answers, known_sessions
from tests.support.experiments import AGENT, experiment_lake
from tests.support.lakes import ROOT
from tests.support.stores import free_port

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
_PILOT = TEXT.partition("## A pilot in ten minutes")[2].partition("\n## ")[0]
FIRST, LAST = (
    re.split(r"\n(?=affectlake|cd )", part.replace("\\\n", " ").strip())
    for part in re.findall(r"```sh\n(.*?)```", _PILOT, re.DOTALL)
)
(SCRIPT,) = re.findall(r"```python\n(.*?)```", _PILOT, re.DOTALL)
(NGINX,) = re.findall(r"```nginx\n(.*?)```", TEXT, re.DOTALL)
START_LIMIT_S = 300.0


def run(line: str, folder: Path) -> str:
    """Run a line of the page."""
    done = subprocess.run(shlex.split(line), cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(words: list[str], folder: Path) -> Iterator[str]:
    """Run the server; give the link."""
    said = folder.parent / "said.txt"
    with (folder.parent / "errors.txt").open("w") as errors, said.open("w") as out:
        server = subprocess.Popen(
            words, cwd=folder, stdout=out, stderr=errors, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        try:
            until = time.monotonic() + START_LIMIT_S
            while "study=" not in said.read_text():
                why = (folder.parent / "errors.txt").read_text()
                assert server.poll() is None and time.monotonic() < until, why
                time.sleep(0.2)
            yield said.read_text().splitlines()[0]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def test_a_pilot_from_init_to_report(tmp_path: Path) -> None:
    init, change, serve = FIRST
    assert change == "cd pilot"
    run(init, tmp_path)
    lake = tmp_path / "pilot"
    port = free_port()
    with serving(shlex.split(serve.replace("8080", str(port))), lake) as link:
        assert link.startswith(f"http://127.0.0.1:{port}/?study=")
        script = tmp_path / "ten_people.py"
        script.write_text(SCRIPT)
        run(f"{sys.executable} {script} {link}", lake)
    status = run(LAST[0], lake)
    assert "participants       10: 10 complete, 0 running, 0 dropped out" in status
    assert "people: 400 of 435 answers (92.0%); 35 are left" in status
    published = run(LAST[1], lake)
    catch = int(re.findall(r"catch trials +(\d+) answered", status)[0])
    assert published.strip() == f"people: +{400 + catch} answers of 10 participants"
    run(LAST[2], lake)
    page = Path(run(LAST[3], lake).strip().splitlines()[-1].rpartition(" ")[2])
    assert page.is_file() and "people, asked in a browser" in page.read_text(encoding="utf-8")
    known, sessions = known_answers(lake, AGENT), known_sessions(lake, AGENT)
    assert known is not None and sessions is not None
    rows = known.collect()
    assert rows.height == 400 + catch and rows["request_key"].n_unique() == rows.height
    main = rows.filter(~pl.col("is_catch"))
    assert main.select("i", "j", "k").is_unique().all(), "no open trial is given twice"
    assert sessions.collect()["session_state"].to_list() == ["done"] * 10
    found = pl.read_parquet(lake / "storage/tables/participants/people/*.parquet")
    assert found["n_used"].to_list() == [40] * 10
    assert (lake / "storage/tables/embeddings/people").is_dir(), "their answers have an embedding"
    assert len(list_versions(lake)) >= 3


def test_a_dry_run_stores_nothing(tmp_path: Path) -> None:
    lake = experiment_lake(tmp_path / "lake")
    before = {path for path in lake.rglob("*") if ".git" not in path.parts and "scratch" not in path.parts}
    said = run(f"affectlake experiment serve {AGENT} --dry-run", lake)
    after = {path for path in lake.rglob("*") if ".git" not in path.parts and "scratch" not in path.parts}
    assert after == before
    for words in ("practice: 2,", "trial: 12,", "catch: ", "the session is done", "participants.secret_hash",
                  "answers.response_ms", "responses.given_odd", "sessions.session_state"):  # fmt: skip
        assert words in said, words


def test_the_documented_nginx_serves_the_task_with_tls(tmp_path: Path) -> None:
    nginx, openssl = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip(f"{'nginx' if nginx is None else 'openssl'} is not installed")
    lake, inner, outer = experiment_lake(tmp_path / "lake"), free_port(), free_port()
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=study.example", "-addext", "subjectAltName=DNS:study.example"]
    make = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run([*make, *subject], check=True, capture_output=True)
    site = NGINX
    for documented, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{outer} ssl"),
        ("/etc/letsencrypt/live/study.example/fullchain.pem", str(cert)),
        ("/etc/letsencrypt/live/study.example/privkey.pem", str(key)),
        ("/var/log/nginx/error.log", str(tmp_path / "error.log")),
        ("127.0.0.1:8080", f"127.0.0.1:{inner}"),
    ):
        assert documented in site
        site = site.replace(documented, here)
    temporary = "\n".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    own = tmp_path / "nginx.conf"
    head = f"daemon off; worker_processes 1; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;"
    own.write_text(f"{head}\nevents {{}}\nhttp {{\n{temporary}\n{site}\n}}\n")
    words = ["affectlake", "experiment", "serve", AGENT, "--port", str(inner), "--public-url", "https://study.example/"]
    with serving(words, lake) as link:
        assert link.startswith("https://study.example/?study=")
        proxy = subprocess.Popen([nginx, "-c", str(own), "-p", str(tmp_path)])
        try:
            checked = ssl.create_default_context(cafile=str(cert))
            name = {"extensions": {"sni_hostname": "study.example"}}
            host = {"Host": "study.example"}
            with httpx.Client(verify=checked, base_url=f"https://127.0.0.1:{outer}", headers=host) as client:
                until = time.monotonic() + 30
                while True:
                    try:
                        page = client.get("/", **name)
                        break
                    except httpx.ConnectError:
                        assert proxy.poll() is None and time.monotonic() < until
                        time.sleep(0.1)
                assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
                token = link.partition("study=")[2]
                own_page = {"Origin": "https://study.example"}
                joined = client.post("/api/join", json={"study": token, "language": "en"}, headers=own_page, **name)
                assert joined.status_code == 200 and joined.json()["state"] == "consent", joined.text
                foreign = {"Origin": "https://elsewhere.example"}
                refused = client.post("/api/join", json={"study": token, "language": "en"}, headers=foreign, **name)
                assert refused.status_code == 403
                large = client.post("/api/join", content=b"x" * 70_000, headers=own_page, **name)
                assert large.status_code == 413
        finally:
            proxy.terminate()
            proxy.wait(30)
    assert "study=" not in (tmp_path / "error.log").read_text(), "no token is logged"
