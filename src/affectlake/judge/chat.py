"""Agents that a server answers for: entries of kind ``chat`` in ``params.yaml``, read strictly.

How a question is asked over the wire does not belong here, nor how it is worded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args
from urllib.parse import urlsplit

from affectlake.errors import UsageError
from affectlake.judge import entries
from affectlake.judge.protocols import ONE_TOKEN_LIMIT, PROTOCOLS, Modality, Protocol, Sampling
from affectlake.judge.server_command import ServerCommand

_OURS = ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "logprobs", "top_logprobs",
         "structured_outputs", "stream", "n")  # fmt: skip
_SAMPLING = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "extra")
_IN_FLIGHT = 64
_START_LIMIT_S = 900.0


@dataclass(frozen=True)
class Price:
    """What a million tokens cost, in and out, in the user's currency."""

    input: float
    output: float


@dataclass(frozen=True)
class ChatAgent:
    """An LLM or MLLM behind OpenAI-compatible servers.

    Parameters
    ----------
    name : str
        Key of the agent.
    model : str
        The servers' name for the model.
    revision : str
        Which state of its weights; empty when the server decides. Part of what identifies a question.
    servers : tuple of str
        Base URLs, such as ``http://127.0.0.1:8000/v1``.
    asking : Protocol
        How it is asked.
    sampling : Sampling
        How an answer is drawn.
    api_key_env : str
        Name of the environment variable that holds the API key; empty: none is sent.
    in_flight : int
        Most requests under way at one server.
    server : ServerCommand or None
        How to start a server, where a run is to do so.
    price : Price or None
        Per million tokens, for estimates.
    """

    kind: ClassVar[str] = "chat"

    name: str
    model: str
    revision: str
    servers: tuple[str, ...]
    asking: Protocol
    sampling: Sampling
    api_key_env: str
    in_flight: int
    server: ServerCommand | None
    price: Price | None

    @property
    def protocol(self) -> str:
        """Name and version of the protocol, as tables hold it."""
        return self.asking.full_name

    def identity(self) -> dict[str, Any]:
        """Return what every question's key depends on besides what is shown: who is asked, and how."""
        return {
            "model": self.model,
            "protocol": self.asking.full_name,
            "revision": self.revision,
            "sampling": self.sampling.as_mapping(),
        }


def parse_chat_agent(name: str, entry: Mapping[str, Any]) -> ChatAgent:
    """Return the agent that an entry of kind ``chat`` describes.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        ``{kind: chat, model: NAME, revision: null, servers: [URL, …], protocol: describe-then-choose, modality:
        captions, sampling: {max_tokens: 512, temperature: 0.7, top_p: 1.0, seed: 0}}`` and, where wanted,
        ``api_key_env``, ``in_flight``, ``server: {command: […], env: {…}, port: 8000, health: /health, start_limit_s:
        900}`` and ``price: {input: 0.15, output: 0.6}``. The sampling of ``forced-choice`` may be
        ``{}``: it has a limit of its own. A null ``max_tokens``, ``temperature`` or ``top_p`` is not sent, and
        ``max_completion_tokens`` is sent instead of ``max_tokens``: GPT-5 and the o-series want it so. A null
        ``revision`` leaves the state of the weights to the server.

    Raises
    ------
    UsageError
        A key or value that does not exist, is missing, or is of the wrong type.
    """
    where = f"agents.{name}"
    optional = ("api_key_env", "in_flight", "server", "price")
    entries.only(where, entry, ("kind", "model", "revision", "servers", "protocol", "modality", "sampling"), optional)
    asking = _protocol(where, entry)
    return ChatAgent(
        name=name,
        model=entries.text(f"{where}.model", entry["model"], "the server's name for the model"),
        revision=_text_or_empty(f"{where}.revision", entry["revision"]),
        servers=_servers(f"{where}.servers", entry["servers"]),
        asking=asking,
        sampling=_sampling(f"{where}.sampling", entry["sampling"], asking),
        api_key_env=_api_key_env(f"{where}.api_key_env", entry.get("api_key_env")),
        in_flight=entries.whole(f"{where}.in_flight", entry.get("in_flight", _IN_FLIGHT), 1, 100_000),
        server=None if entry.get("server") is None else _server(f"{where}.server", entry["server"]),
        price=None if entry.get("price") is None else _price(f"{where}.price", entry["price"]),
    )


def recorded_chat_agent(name: str, entry: Mapping[str, Any]) -> ChatAgent:
    """Return the agent that an earlier entry describes, as far as its answers depend on it: nobody is asked by it.

    What today's entries need besides is not needed here, and keys that today's do not have are ignored.

    Parameters
    ----------
    name : str
        Its key.
    entry : mapping
        The entry, of kind ``chat`` or what that kind was called.

    Raises
    ------
    UsageError
        If it does not say which model was asked, by which protocol and with which sampling, or not in words of today.
    """
    where = f"agents.{name}"
    asking = _protocol(where, entry)
    return ChatAgent(
        name=name,
        model=entries.text(f"{where}.model", entry.get("model"), "the server's name for the model"),
        revision=_text_or_empty(f"{where}.revision", entry.get("revision")),
        servers=(),
        asking=asking,
        sampling=_sampling(f"{where}.sampling", entry.get("sampling"), asking),
        api_key_env="",
        in_flight=_IN_FLIGHT,
        server=None,
        price=None,
    )


def _protocol(where: str, entry: Mapping[str, Any]) -> Protocol:
    modality: Modality = entries.choice(where, entry, "modality", get_args(Modality))
    families = tuple(dict.fromkeys(name.partition("/")[0] for name in PROTOCOLS))
    family = entries.choice(where, entry, "protocol", families)
    return PROTOCOLS[f"{family}/{'caption' if modality == 'captions' else 'video'}"]


def _sampling(where: str, value: object, asking: Protocol) -> Sampling:
    entry = entries.mapping(where, value, "{max_tokens: 512, temperature: 0.7}")
    has_limit = asking.reading == "one-token" or entry.get("max_completion_tokens") is not None
    needed = () if has_limit else ("max_tokens",)
    entries.only(where, entry, needed, tuple(key for key in _SAMPLING if key not in needed))
    max_tokens, max_completion_tokens = _longest(where, entry, asking)
    seed = entry.get("seed")
    extra = entries.mapping(f"{where}.extra", entry.get("extra") or {}, "{chat_template_kwargs: {…}}")
    taken = [key for key in extra if key in _OURS or (key == "max_completion_tokens" and key in entry)]
    if taken:
        raise UsageError(f"{where}.extra may not set {taken[0]}.", todo="affectlake sets it itself")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}.extra cannot be sent as JSON.", found=str(error)) from error
    return Sampling(
        max_tokens=max_tokens,
        temperature=_number_or_none(f"{where}.temperature", entry.get("temperature", 0.0), 0.0, 2.0),
        top_p=_number_or_none(f"{where}.top_p", entry.get("top_p", 1.0), 1e-6, 1.0),
        seed=None if seed is None else entries.whole(f"{where}.seed", seed, 0, 2**31 - 1),
        extra=extra or None,
        max_completion_tokens=max_completion_tokens,
    )


def _longest(where: str, entry: Mapping[str, Any], asking: Protocol) -> tuple[int | None, int | None]:
    """Return ``max_tokens`` and ``max_completion_tokens``; at most one of them is a number."""
    own = ONE_TOKEN_LIMIT if asking.reading == "one-token" else None
    names = ("max_tokens", "max_completion_tokens")
    old, new = (None if entry.get(n) is None else entries.whole(f"{where}.{n}", entry[n], 1) for n in names)
    if old is not None and new is not None:
        raise UsageError(
            f"{where} has both max_tokens and max_completion_tokens.",
            found=f"max_tokens: {old}, max_completion_tokens: {new}",
            todo="keep max_completion_tokens for GPT-5 and the o-series, max_tokens for other models",
        )
    return (old if "max_tokens" in entry or new is not None else own), new


def _number_or_none(where: str, value: object, minimum: float, maximum: float) -> float | None:
    return None if value is None else entries.number(where, value, minimum, maximum)


def _servers(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where} names no server.", wanted="such as [http://127.0.0.1:8000/v1]", found=repr(value))
    for url in value:
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{where} holds what is no URL.", wanted="such as http://127.0.0.1:8000/v1", found=repr(url)
            )
        if parts.username or parts.password or parts.query:
            raise UsageError(
                f"{where} holds a URL with a secret in it.",
                todo="put the key into an environment variable and name it: api_key_env: NAME",
            )
    if len(set(value)) < len(value):
        raise UsageError(f"{where} names a server twice.", found=", ".join(value))
    return tuple(url.rstrip("/") for url in value)


def _api_key_env(where: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise UsageError(  # what stands there may be the key itself: it is not repeated
            f"{where} is no name of an environment variable.",
            wanted="such as OPENAI_API_KEY, the name and not the key",
        )
    return value


def _server(where: str, value: object) -> ServerCommand:
    entry = entries.mapping(where, value, "{command: [vllm, serve, MODEL], port: 8000}")
    entries.only(where, entry, ("command", "port"), ("env", "health", "start_limit_s"))
    command, env = entry["command"], entry.get("env") or {}
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise UsageError(f"{where}.command is no list of words.", wanted="[vllm, serve, MODEL]", found=repr(command))
    env = entries.mapping(f"{where}.env", env, "{VLLM_NO_USAGE_STATS: '1'}")
    if not all(isinstance(setting, str) for setting in env.values()):
        raise UsageError(f"{where}.env holds what is no text.", wanted="quoted values", found=", ".join(env))
    health = entries.text(f"{where}.health", entry.get("health", "/health"), "a path, such as /health")
    if not health.startswith("/"):
        raise UsageError(f"{where}.health is no path.", wanted="such as /health", found=repr(health))
    return ServerCommand(
        command=tuple(command),
        env=dict(env),
        port=entries.whole(f"{where}.port", entry["port"], 1, 65535),
        health=health,
        start_limit_s=entries.number(f"{where}.start_limit_s", entry.get("start_limit_s", _START_LIMIT_S), 1, 86_400),
    )


def _price(where: str, value: object) -> Price:
    entry = entries.mapping(where, value, "{input: 0.15, output: 0.6}")
    entries.only(where, entry, ("input", "output"))
    return Price(*(entries.number(f"{where}.{side}", entry[side], 0.0, 1e6) for side in ("input", "output")))


def _text_or_empty(where: str, value: object) -> str:
    return "" if value is None else entries.text(where, value, "a revision, or null")
