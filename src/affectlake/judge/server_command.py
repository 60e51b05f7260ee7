"""How a server that a collection run starts is started.

Its life does not belong here; see :mod:`affectlake.judge.requests.server_process`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerCommand:
    """How to start a server.

    Parameters
    ----------
    command : tuple of str
        Program and arguments, such as ``("vllm", "serve", "Qwen/Qwen2-VL-7B-Instruct")``.
    port : int
        Where it listens, 1 to 65535.
    host : str
        Where it listens.
    health : str
        Answers 200 once the server is ready.
    env : mapping
        Environment variables beside those of this process.
    start_limit_s : float
        How long it may take to be ready.
    stop_limit_s : float
        How long it may take to end before it is killed.
    """

    command: tuple[str, ...]
    port: int
    host: str = "127.0.0.1"
    health: str = "/health"
    env: Mapping[str, str] = field(default_factory=dict)
    start_limit_s: float = 900.0
    stop_limit_s: float = 20.0

    @property
    def health_url(self) -> str:
        """Where to ask whether it is ready."""
        return f"http://{self.host}:{self.port}{self.health}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}/v1"
