"""Settings for a server that a collection run starts.

The server is started and stopped in :mod:`affectlake.judge.requests.server_process`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from affectlake.validation import NULL_AS_EMPTY, Secret, Strict, mistake, or_null


class ServerCommand(Strict):
    """How to start a server on this machine."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"device_limit_s": {"type": "number"}}, "required": ["device_limit_s"]},
            "then": {"required": ["device"]},
        }
    )

    host: ClassVar[str] = "127.0.0.1"

    command: tuple[str, ...] = Field(
        strict=False,
        min_length=1,
        description="Program and arguments.",
        examples=[["vllm", "serve", "Qwen/Qwen2-VL-7B-Instruct"]],
    )
    port: int = Field(ge=1, le=65535, description="Port on which the server listens.")
    health: str = Field(
        default="/health",
        pattern="^/",
        description="Path that returns status 200 once the server is ready.",
        examples=["/health"],
    )
    env: Annotated[dict[str, Secret], NULL_AS_EMPTY] = Field(
        default_factory=dict,
        description="Environment variables in addition to those of this process; values in quotes.",
        json_schema_extra=or_null,
    )
    start_limit_s: float = Field(
        default=900.0, ge=1, le=86_400, description="Time limit until the server is ready, in seconds."
    )

    device: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the device that the server needs to itself; servers with the same name wait for one "
        "another, in all lakes of the user on this machine. Empty: it starts at once.",
        examples=["gpu0"],
    )
    device_limit_s: float | None = Field(
        default=None, ge=1, description="Time limit for waiting for the device, in seconds; null: none."
    )

    @model_validator(mode="after")
    def _waits_for_a_device(self) -> Self:
        if self.device_limit_s is not None and not self.device:
            raise mistake("has device_limit_s without device", todo="name the device, or remove device_limit_s")
        return self

    @property
    def health_url(self) -> str:
        """URL that returns status 200 once the server is ready."""
        return f"http://{self.host}:{self.port}{self.health}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}/v1"
