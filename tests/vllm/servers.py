"""How the tests and the benchmark start real vLLM servers on loopback, in vLLM's own environment."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from affectlake.judge.requests.server_process import Served, serve
from affectlake.judge.server_command import ServerCommand
from affectlake.judge.trials.questions import Question

ROOT = Path(__file__).parents[2]
SITE = ROOT / "tests" / "vllm" / "site"
ENV = {
    "PYTHONPATH": str(SITE),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def python() -> Path:
    """Return the Python of vLLM's environment: what ``AFFECTLAKE_VLLM_PYTHON`` names, or ``.venv-vllm`` here."""
    return Path(os.environ.get("AFFECTLAKE_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))


def make_models(folder: Path) -> None:
    """Write the tiny models unless they are there."""
    if not (folder / "tiny-qwen2-vl" / "model.safetensors").exists():
        subprocess.run(
            [python(), ROOT / "tests" / "vllm" / "make_models.py", folder],
            env={**os.environ, **ENV},
            check=True,
            capture_output=True,
        )


@contextmanager
def vllm(model: Path, log: Path, *more: str) -> Iterator[Served]:
    """Serve `model` under its folder's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ["--model", str(model), "--served-model-name", model.name, "--host", "127.0.0.1", "--port", str(port)]
    program = (str(python()), "-m", "vllm.entrypoints.openai.api_server")
    command = (*program, *words, "--enforce-eager", "--enable-prompt-tokens-details", *more)
    with serve(ServerCommand(command=command, port=port, env=ENV, start_limit_s=600), log) as served:
        yield served


def question(number: int, model: str, content: object, route: int = 0, **sampling: object) -> Question:
    """Return a question with a request written by hand."""
    from hashlib import sha256

    body = {"model": model, "messages": [{"role": "user", "content": content}], **sampling}
    key = sha256(orjson.dumps([number, body])).digest()
    return Question(key, "main", number, number + 1, number + 2, 0, (1, 2, 3), None, route, body)
