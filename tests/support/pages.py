"""The pages of a lake, as tests ask for them: in this process, or from the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.testclient import TestClient

from affectlake.ui.access import Access
from affectlake.ui.app import app

TOKEN = "the-token-of-the-tests"


def guarded(lake: Path) -> TestClient:
    """Return a client without a cookie, for the pages behind their check."""
    return TestClient(Access(app(lake), TOKEN), base_url="http://127.0.0.1:8000", follow_redirects=False)


def entered(lake: Path) -> TestClient:
    """Return a client that has opened the address with the token."""
    client = guarded(lake)
    assert client.get("/", params={"token": TOKEN}).status_code == 303
    return client


@contextmanager
def running(lake: Path, *options: str, cache: Path) -> Iterator[str]:
    """Run ``affectlake ui`` and yield the address that it prints."""
    environment = {**os.environ, "AFFECTLAKE_UI_CACHE": str(cache)}
    command = ["affectlake", "ui", "--lake", str(lake), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=30)
