"""Entries of ``agents``, right and wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from affectlake.errors import UsageError
from affectlake.judge.agents import FeaturesAgent, RatingsAgent, SentenceTransformers, TfidfSvd, parse_agent
from affectlake.judge.chat import ChatAgent, Price
from affectlake.judge.protocols import Sampling
from affectlake.judge.server_command import ServerCommand
from tests.support.chat import ENTRY


def test_every_kind() -> None:
    for which in ("category", "dimension", "concatenated"):
        assert parse_agent("a", {"kind": "ratings", "ratings": which}) == RatingsAgent("a", which)
    tfidf = {"kind": "features", "encoder": {"name": "tfidf-svd", "n_components": 30}}
    assert parse_agent("b", tfidf) == FeaturesAgent("b", TfidfSvd(30))
    sentences = {"kind": "features", "encoder": {"name": "sentence-transformers", "model": "some/model"}}
    assert parse_agent("c", sentences) == FeaturesAgent("c", SentenceTransformers("some/model"))


def test_protocols_name_the_rule_and_its_version() -> None:
    for protocol in (RatingsAgent.protocol, FeaturesAgent.protocol):
        assert re.fullmatch(r"[a-z0-9][a-z0-9./-]*", protocol)
    assert RatingsAgent.protocol != FeaturesAgent.protocol


TFIDF = {"name": "tfidf-svd", "n_components": 30}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "agents.x has no kind"),
        ({"kind": "rating"}, "did you mean 'ratings'"),
        ({"kind": ["ratings"]}, "agents.x.kind has no value"),
        ({"kind": "ratings"}, "agents.x has no ratings"),
        ({"kind": "ratings", "ratings": "categories"}, "did you mean 'category'"),
        ({"kind": "ratings", "ratings": 3}, "category, dimension, concatenated"),
        ({"kind": "ratings", "ratings": "category", "rating": 1}, "unknown key 'rating'"),
        ({"kind": "ratings", "ratings": "category", "encoder": TFIDF}, "unknown key 'encoder'"),
        ({"kind": "features"}, "agents.x has no encoder"),
        ({"kind": "features", "encoder": "tfidf-svd"}, "agents.x.encoder is no mapping"),
        ({"kind": "features", "encoder": {}}, "agents.x.encoder has no name"),
        ({"kind": "features", "encoder": {"name": "tfidf"}}, "did you mean 'tfidf-svd'"),
        ({"kind": "features", "encoder": {"name": "tfidf-svd"}}, "agents.x.encoder has no n_components"),
        ({"kind": "features", "encoder": {**TFIDF, "model": "m"}}, "unknown key 'model'"),
        ({"kind": "features", "encoder": {**TFIDF, "n_components": 0}}, "1 or more"),
        ({"kind": "features", "encoder": {**TFIDF, "n_components": True}}, "whole number"),
        ({"kind": "features", "encoder": {**TFIDF, "n_components": "30"}}, "'30'"),
        ({"kind": "features", "encoder": {"name": "sentence-transformers"}}, "has no model"),
        ({"kind": "features", "encoder": {"name": "sentence-transformers", "model": 1}}, "names no model"),
        ({"kind": "features", "encoder": {"name": "sentence-transformers", "model": " "}}, "names no model"),
    ],
)
def test_wrong_entries(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_agent("x", entry)
    assert said in str(error.value), str(error.value)


def chat(**changes: Any) -> dict[str, Any]:
    return ENTRY | changes


def test_a_chat_agent() -> None:
    entry = chat(
        revision="abc",
        servers=["http://127.0.0.1:8000/v1/", "https://gpu-2:8001/v1"],
        api_key_env="OPENAI_API_KEY",
        in_flight=8,
        server={"command": ["vllm", "serve", "m"], "env": {"VLLM_NO_USAGE_STATS": "1"}, "port": 8000},
        price={"input": 0.15, "output": 0.6},
    )
    agent = parse_agent("qwen", entry)
    assert isinstance(agent, ChatAgent)
    assert agent.servers == ("http://127.0.0.1:8000/v1", "https://gpu-2:8001/v1")
    assert (agent.kind, agent.protocol) == ("chat", "describe-then-choose/caption/1")
    assert agent.server == ServerCommand(("vllm", "serve", "m"), 8000, env={"VLLM_NO_USAGE_STATS": "1"})
    assert agent.price == Price(0.15, 0.6)
    assert agent.sampling == Sampling(64, 0.7, 1.0, 11, None)
    assert set(agent.identity()) == {"model", "protocol", "revision", "sampling"}


def test_a_one_token_agent_needs_no_length() -> None:
    agent = parse_agent("qwen", chat(protocol="forced-choice", modality="videos", sampling={}))
    assert isinstance(agent, ChatAgent)
    assert (agent.protocol, agent.sampling.max_tokens) == ("forced-choice/video/1", 4)


SERVER = {"command": ["vllm"], "port": 8000}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (chat(servr=SERVER), "did you mean 'server'"),
        ({k: v for k, v in ENTRY.items() if k != "revision"}, "has no revision"),
        (chat(model=""), "agents.x.model is no text"),
        (chat(revision=3), "a revision, or null"),
        (chat(servers=[]), "names no server"),
        (chat(servers="http://a/v1"), "names no server"),
        (chat(servers=["localhost:8000"]), "holds what is no URL"),
        (chat(servers=["file:///etc/passwd"]), "holds what is no URL"),
        (chat(servers=["http://a/v1", "http://a/v1"]), "names a server twice"),
        (chat(protocol="describe-then-chose"), "did you mean 'describe-then-choose'"),
        (chat(modality="caption"), "did you mean 'captions'"),
        (chat(sampling={}), "agents.x.sampling has no max_tokens"),
        (chat(sampling={"max_tokens": 0}), "1 or more"),
        (chat(sampling={"max_tokens": 9, "temperature": 3}), "a number from 0 to 2"),
        (chat(sampling={"max_tokens": 9, "top_p": 0}), "agents.x.sampling.top_p"),
        (chat(sampling={"max_tokens": 9, "seed": -1}), "agents.x.sampling.seed"),
        (chat(sampling={"max_tokens": 9, "temperatur": 1}), "did you mean 'temperature'"),
        (chat(sampling={"max_tokens": 9, "extra": {"messages": []}}), "may not set messages"),
        (chat(sampling={"max_tokens": 9, "extra": {"x": float("nan")}}), "cannot be sent as JSON"),
        (chat(sampling=[1]), "agents.x.sampling is no mapping"),
        (chat(sampling={"max_tokens": 9, "max_completion_tokens": 9}), "both max_tokens and max_completion_tokens"),
        (chat(in_flight=0), "agents.x.in_flight"),
        (chat(server="vllm serve m"), "agents.x.server is no mapping"),
        (chat(server={**SERVER, "command": "vllm serve m"}), "no list of words"),
        (chat(server={**SERVER, "port": 99999}), "1 to 65535"),
        (chat(server={**SERVER, "env": {"A": 1}}), "quoted values"),
        (chat(server={**SERVER, "health": "health"}), "is no path"),
        (chat(price={"input": 1}), "agents.x.price has no output"),
        (chat(price={"input": -1, "output": 0}), "agents.x.price.input"),
    ],
)
def test_wrong_chat_entries(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_agent("x", entry)
    assert said in str(error.value), str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        chat(api_key_env="sk-verysecret-0123"),
        chat(servers=["https://user:verysecret@host/v1"]),
        chat(servers=["https://host/v1?key=verysecret"]),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(entry: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        parse_agent("x", entry)
    assert "verysecret" not in str(error.value)
