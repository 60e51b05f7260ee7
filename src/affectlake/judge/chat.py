"""Chat agents: LLMs and MLLMs behind servers, the entries of kind ``chat`` in ``params.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, WrapValidator, model_validator

from affectlake.judge.protocols import PROTOCOLS, Family, Modality, Protocol
from affectlake.judge.respondent import Respondent
from affectlake.judge.sampling import ONE_TOKEN_LIMIT, Sampling
from affectlake.judge.server_command import ServerCommand
from affectlake.validation import OptionalText, Strict, Text, check, mistake

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_URL = r"^\s*[hH][tT][tT][pP][sS]?://[^/?#]"
_SECRET = r"^[^#]*//[^/?#]*@|^[^#]*\?[^#]"  # a user name, or a query


class Price(Strict):
    """Price of a million input and output tokens, in any currency."""

    input: float = Field(ge=0, le=1e6, description="Of a million tokens of requests.")
    output: float = Field(ge=0, le=1e6, description="Of a million tokens of answers.")


def _server_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        said = url.rpartition("@")[2].partition("?")[0]  # before and after may be secrets
        raise mistake(f"is not a valid server URL: {said!r}", wanted="such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise mistake(
            "is a URL that contains a secret",
            todo="put the key in an environment variable and set api_key_env to its name",
        )
    return url


def _servers(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(urls)) < len(urls):
        raise mistake("has a server twice", found=", ".join(urls))
    return tuple(url.rstrip("/") for url in urls)


def _variable(name: Any, inner: Any) -> str:
    if name is None:
        return ""
    if not isinstance(name, str) or not re.fullmatch(_VARIABLE.rstrip("$"), name):
        raise mistake(  # the value may be the key itself: it is not repeated
            "is not the name of an environment variable", wanted="a name such as OPENAI_API_KEY, not the key itself"
        )
    return str(inner(name))


Variable = Annotated[
    str,
    WrapValidator(_variable),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _VARIABLE}, {"type": "null"}]}),
]
Server = Annotated[
    str,
    AfterValidator(_server_url),
    Field(json_schema_extra={"pattern": _URL, "not": {"pattern": _SECRET}, "writeOnly": True}),
]


_FREE = sorted({name.partition("/")[0] for name, asked in PROTOCOLS.items() if asked.reading != "one-token"})
_HAS_A_LIMIT: dict[str, Any] = {
    "anyOf": [
        {"required": ["max_tokens"]},
        {"required": ["max_completion_tokens"], "properties": {"max_completion_tokens": {"type": "integer"}}},
    ]
}
_NEEDS_A_LIMIT: dict[str, Any] = {
    "if": {"properties": {"protocol": {"enum": _FREE}}, "required": ["protocol"]},
    "then": {"properties": {"sampling": _HAS_A_LIMIT}},
}


class ChatAgent(Respondent):
    """An LLM or MLLM behind OpenAI-compatible servers."""

    model_config = ConfigDict(json_schema_extra=_NEEDS_A_LIMIT)

    needs_server: ClassVar[bool] = True
    collected_by: ClassVar[str] = "affectlake collect"

    kind: Literal["chat"]
    model: Text = Field(description="The servers' name for the model.")
    revision: OptionalText = Field(
        description="Revision of its weights, part of a question's identity; null: the server decides."
    )
    servers: Annotated[tuple[Server, ...], AfterValidator(_servers)] = Field(
        strict=False,
        min_length=1,
        description="Base URLs.",
        examples=[["http://127.0.0.1:8000/v1"]],
        json_schema_extra={"uniqueItems": True, "writeOnly": True},
    )
    family: Family = Field(alias="protocol", description="How it is asked (docs/collecting.md).")
    modality: Modality = Field(description="What it is shown of a stimulus.")
    sampling: Sampling = Field(description="How an answer is drawn.")
    api_key_env: Variable = Field(
        default="", description="Environment variable that holds the API key; null: no key is sent."
    )
    in_flight: int = Field(
        default=64, ge=1, le=100_000, description="Largest number of concurrent requests to one server."
    )
    server: ServerCommand | None = Field(
        default=None, description="How to start a server; null: a run does not start one."
    )
    price: Price | None = Field(default=None, description="Per million tokens, for estimates.")

    @model_validator(mode="before")
    @classmethod
    def _give_one_token_its_limit(cls, entry: Any) -> Any:
        """Add the limit of one-token protocols; for unknown protocols too, so that only the protocol is reported."""
        sampling = entry.get("sampling") if isinstance(entry, Mapping) else None
        if not isinstance(sampling, Mapping) or "max_tokens" in sampling:
            return entry
        if entry.get("protocol") in _FREE or sampling.get("max_completion_tokens") is not None:
            return entry
        return {**entry, "sampling": {**sampling, "max_tokens": ONE_TOKEN_LIMIT}}

    @property
    def asking(self) -> Protocol:
        """The protocol by which it is asked."""
        return PROTOCOLS[f"{self.family}/{'caption' if self.modality == 'captions' else 'video'}"]

    @property
    def protocol(self) -> str:
        """Name and version of the protocol, as tables hold it."""
        return self.asking.full_name

    def identity(self) -> dict[str, Any]:
        """Return the part of a question's key that does not depend on the stimuli: the model and its settings."""
        return {
            "model": self.model,
            "protocol": self.asking.full_name,
            "revision": self.revision,
            "sampling": self.sampling.as_mapping(),
        }


def recorded_chat_agent(name: str, entry: Mapping[str, Any]) -> ChatAgent:
    """Return the agent described by an entry of an earlier version, to interpret its answers.

    Only settings on which the answers depend are read. Other settings may be missing, unknown keys are ignored, and
    the agent cannot be used to send requests.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        The entry, of kind ``chat`` or a former name of that kind.

    Raises
    ------
    UsageError
        If the model, protocol or sampling is missing or is not valid.
    """
    asked = {key: entry[key] for key in ("model", "protocol", "modality", "sampling") if key in entry}
    today = {"kind": "chat", "l1": "auto", "revision": entry.get("revision"), "servers": ["http://none"]}
    found: ChatAgent = check(ChatAgent, today | asked, within=f"agents.{name}")
    return found.model_copy(update={"servers": ()}).named(name)
