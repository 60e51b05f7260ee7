"""Chat agents: LLMs and MLLMs behind servers, the entries of kind ``chat`` in ``params.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from affectlake.errors import nearest
from affectlake.judge.protocols.builtin import FAMILIES, FREE_FAMILIES, KINDS, built_in
from affectlake.judge.protocols.labels import Way
from affectlake.judge.protocols.protocol import Modality, Protocol
from affectlake.judge.respondent import Respondent
from affectlake.judge.sampling import ONE_TOKEN_LIMIT, Sampling
from affectlake.judge.server_command import ServerCommand
from affectlake.mistakes import shown
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


_FREE = sorted(FREE_FAMILIES)
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


OwnProtocols = Mapping[str, Protocol]
"""The protocols of a lake, by name, besides the built-in ones."""

OWN_PROTOCOLS = "own_protocols"
"""Key of the lake's protocols in the context of validation. Without it, only the built-in protocols are known."""


OWN_NAMES = "own_names"
"""Key in the context of validation of the names of all protocol files of a lake, for messages."""


def _own(info: ValidationInfo) -> OwnProtocols:
    found: OwnProtocols = (info.context or {}).get(OWN_PROTOCOLS) or {}
    return found


def _known_protocol(name: str, info: ValidationInfo) -> str:
    own = _own(info)
    if name not in FAMILIES and name not in own:
        known = [*FAMILIES, *((info.context or {}).get(OWN_NAMES) or own)]
        raise mistake(
            f"must be one of {', '.join(known)}",
            found=shown(name),
            todo=nearest(name, known) or "name a built-in protocol, or write a file in protocols/",
        )
    return name


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
    family: Annotated[
        Text, AfterValidator(_known_protocol), WithJsonSchema({"enum": list(FAMILIES), "type": "string"})
    ] = Field(
        alias="protocol",
        description="How it is asked: a built-in protocol, or NAME of a file protocols/NAME.yaml (docs/protocols.md).",
    )
    modality: Modality = Field(description="What it is shown of a stimulus.")
    sampling: Sampling = Field(description="How an answer is drawn.")
    orders: Literal[1, 3, 6] = Field(
        default=1,
        description="Number of orders in which each trial is asked: 1, 3 (cyclic: each stimulus once at each position) "
        "or 6 (all); the answers are combined into one choice.",
    )
    calibrate: Literal["positions"] | None = Field(
        default=None,
        description="positions: subtract each position's mean log-probability before the choice is made; for one-token "
        "protocols. null: not.",
    )
    learn_from: Literal["choices", "probabilities"] = Field(
        default="choices",
        description="What its embedding learns from. choices: one odd stimulus of each trial; probabilities: the "
        "probability that each stimulus is the odd one, as a weighted likelihood; for one-token protocols.",
    )
    draws_of: OptionalText = Field(
        default="",
        description="Name of another agent, whose trials are shown with the same captions in the same orders, so that "
        "only the protocol or the model differs; null: drawn for this agent.",
    )
    api_key_env: Variable = Field(
        default="", description="Environment variable that holds the API key; null: no key is sent."
    )
    in_flight: int = Field(
        default=64, ge=1, le=100_000, description="Largest number of concurrent requests to one server."
    )
    timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Time limit of one request in seconds, from the connection to the last byte.",
    )
    constraint: Way = Field(
        default="auto",
        description="How a server is made to answer a one-token protocol with one of its labels. auto: the first way "
        "that it is found to obey (docs/collecting.md); none: not, and other answers do not count.",
    )
    server: ServerCommand | None = Field(
        default=None, description="How to start a server; null: a run does not start one."
    )
    price: Price | None = Field(default=None, description="Per million tokens, for estimates.")

    _asking: Protocol | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _give_one_token_its_limit(cls, entry: Any, info: ValidationInfo) -> Any:
        """Add the limit of one-token protocols; for unknown protocols too, so that only the protocol is reported."""
        sampling = entry.get("sampling") if isinstance(entry, Mapping) else None
        if not isinstance(sampling, Mapping) or "max_tokens" in sampling:
            return entry
        name, own = entry.get("protocol"), _own(info)
        is_free = not own[name].asks_one_token if isinstance(name, str) and name in own else name in _FREE
        if is_free or sampling.get("max_completion_tokens") is not None:
            return entry
        return {**entry, "sampling": {**sampling, "max_tokens": ONE_TOKEN_LIMIT}}

    @model_validator(mode="after")
    def _find_protocol(self, info: ValidationInfo) -> Self:
        own = _own(info)
        if self.family in FAMILIES:
            self._asking = built_in(f"{self.family}/{KINDS[self.modality]}")
        else:
            self._asking = own[self.family]
            if self._asking.modality != self.modality:
                raise mistake(
                    f"must be {self._asking.modality}, which the protocol {self.family} shows",
                    at="modality",
                    found=self.modality,
                )
        return self

    @model_validator(mode="after")
    def _can_be_calibrated(self) -> Self:
        if self.calibrate and not self.asking.asks_one_token:
            raise mistake(
                f"needs log-probabilities, which the protocol {self.family} does not ask for",
                at="calibrate",
                todo="remove it, or choose a protocol whose answer is read as one-token",
            )
        if self.calibrate and self.orders > 1:
            raise mistake(
                f"has no effect with orders: {self.orders}, which show every stimulus equally often at each position",
                at="calibrate",
                todo="remove it, or set orders: 1",
            )
        return self

    @model_validator(mode="after")
    def _has_probabilities(self) -> Self:
        if self.learns_probabilities and not self.asking.asks_one_token:
            raise mistake(
                f"needs log-probabilities, which the protocol {self.family} does not ask for",
                at="learn_from",
                found=self.learn_from,
                todo="remove it, or choose a protocol whose answer is read as one-token",
            )
        return self

    @property
    def learns_probabilities(self) -> bool:
        """Whether its embedding learns from the probabilities of its choices, rather than from the choices."""
        return self.learn_from == "probabilities"

    @property
    def draws(self) -> str:
        """Name of the agent for which captions and orders are drawn: `draws_of`, or its own."""
        return self.draws_of or self.name

    @property
    def asking(self) -> Protocol:
        """The protocol by which it is asked."""
        assert self._asking is not None
        return self._asking

    @property
    def protocol(self) -> str:
        """Name and version or hash of the protocol, as the table ``responses`` holds it."""
        return self.asking.full_name

    @property
    def choice_protocol(self) -> str:
        """The protocol and the way in which answers are combined, as the table ``choices`` holds it."""
        ways = [f"orders-{self.orders}"] if self.orders > 1 else ["calibrated"] if self.calibrate else []
        return "/".join([self.protocol, *ways])

    @property
    def weighs_answers(self) -> bool:
        """Whether choices are made from the probabilities of the positions, of several orders or calibrated."""
        return self.asking.asks_one_token and (self.orders > 1 or self.calibrate is not None)

    def identity(self) -> dict[str, Any]:
        """Return the part of a question's key that does not depend on the stimuli: the model and its settings."""
        return {
            "model": self.model,
            "protocol": self.asking.full_name,
            "revision": self.revision,
            "sampling": self.sampling.as_mapping(),
        }


def recorded_chat_agent(name: str, entry: Mapping[str, Any], own: OwnProtocols | None = None) -> ChatAgent:
    """Return the agent described by an entry of an earlier version, to interpret its answers.

    Only settings on which the answers depend are read. Other settings may be missing, unknown keys are ignored, and
    the agent cannot be used to send requests.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        The entry, of kind ``chat`` or a former name of that kind.
    own : mapping of str to Protocol, optional
        The protocol of the entry by its name, if it is not a built-in one.

    Raises
    ------
    UsageError
        If the model, protocol or sampling is missing or is not valid.
    """
    asked = {key: entry[key] for key in ("model", "protocol", "modality", "sampling") if key in entry}
    today = {"kind": "chat", "l1": "auto", "revision": entry.get("revision"), "servers": ["http://none"]}
    found: ChatAgent = check(ChatAgent, today | asked, within=f"agents.{name}", context={OWN_PROTOCOLS: own})
    return found.model_copy(update={"servers": ()}).named(name)
