"""Entries of ``agents``, right and wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.judge.agents import FeaturesAgent, RatingsAgent, SentenceTransformers, TfidfSvd, parse_agent
from affectlake.judge.chat import ChatAgent, Price
from affectlake.judge.sampling import Sampling
from affectlake.judge.server_command import ServerCommand
from affectlake.judge.trials.request_keys import canonical
from tests.support.chat import ENTRY


def test_every_kind() -> None:
    for which in ("category", "dimension", "concatenated"):
        rated = parse_agent("a", {"kind": "ratings", "ratings": which})
        assert isinstance(rated, RatingsAgent)
        assert (rated.name, rated.kind, rated.ratings, rated.modality) == ("a", "ratings", which, None)
    tfidf = parse_agent("b", {"kind": "features", "encoder": {"name": "tfidf-svd", "n_components": 30}})
    assert isinstance(tfidf, FeaturesAgent) and isinstance(tfidf.encoder, TfidfSvd)
    assert (tfidf.name, tfidf.encoder.n_components, tfidf.modality) == ("b", 30, "captions")
    sentences = parse_agent(
        "c", {"kind": "features", "encoder": {"name": "sentence-transformers", "model": "some/model"}}
    )
    assert isinstance(sentences, FeaturesAgent) and isinstance(sentences.encoder, SentenceTransformers)
    assert (sentences.encoder.model, sentences.modality) == ("some/model", "captions")


def test_protocols_name_the_rule_and_its_version() -> None:
    for protocol in (RatingsAgent.protocol, FeaturesAgent.protocol):
        assert re.fullmatch(r"[a-z0-9][a-z0-9./-]*", protocol)
    assert RatingsAgent.protocol != FeaturesAgent.protocol


TFIDF = {"name": "tfidf-svd", "n_components": 30}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "agents.x.kind is missing"),
        ({"kind": "rating"}, "did you mean 'ratings'"),
        (
            {"kind": ["ratings"]},
            "agents.x.kind must be one of anchored, chat, experiment, features, judgments, ratings\n"
            "  found: ['ratings']",
        ),
        ({"kind": "ratings"}, "agents.x.ratings is missing"),
        ({"kind": "ratings", "ratings": ["category"]}, "agents.x.ratings"),
        ({"kind": "ratings", "ratings": 3}, "agents.x.ratings must be a text"),
        ({"kind": "ratings", "ratings": "category", "rating": 1}, "agents.x.rating is not a known key"),
        ({"kind": "ratings", "ratings": "category", "encoder": TFIDF}, "remove it: only kind: features has it"),
        ({"kind": "features"}, "agents.x.encoder is missing"),
        ({"kind": "features", "encoder": "tfidf-svd"}, "agents.x.encoder must be a mapping"),
        ({"kind": "features", "encoder": {}}, "agents.x.encoder.name is missing"),
        ({"kind": "features", "encoder": {"name": "tfidf"}}, "did you mean 'tfidf-svd'"),
        ({"kind": "features", "encoder": {"name": "tfidf-svd"}}, "agents.x.encoder.n_components is missing"),
        ({"kind": "features", "encoder": {**TFIDF, "model": "m"}}, "agents.x.encoder.model is not a known key"),
        ({"kind": "features", "encoder": {**TFIDF, "n_components": 0}}, "1 or more"),
        (
            {"kind": "features", "encoder": {**TFIDF, "n_components": True}},
            "must be an integer, 1 or more, or auto\n  found: true",
        ),
        ({"kind": "features", "encoder": {**TFIDF, "n_components": "30"}}, "'30'"),
        ({"kind": "features", "encoder": {"name": "sentence-transformers"}}, "agents.x.encoder.model is missing"),
        (
            {"kind": "features", "encoder": {"name": "sentence-transformers", "model": 1}},
            "agents.x.encoder.model must be a text",
        ),
        (
            {"kind": "features", "encoder": {"name": "sentence-transformers", "model": " "}},
            "agents.x.encoder.model must be a text",
        ),
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
    assert agent.server == ServerCommand(command=("vllm", "serve", "m"), port=8000, env={"VLLM_NO_USAGE_STATS": "1"})
    assert agent.price == Price(input=0.15, output=0.6)
    assert agent.sampling == Sampling(max_tokens=64, temperature=0.7, top_p=1.0, seed=11)
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
        ({k: v for k, v in ENTRY.items() if k != "revision"}, "agents.x.revision is missing"),
        (chat(model=""), "agents.x.model must be a text"),
        (chat(revision=3), "agents.x.revision must be null or a text"),
        (chat(servers=[]), "agents.x.servers must be a list of one or more texts"),
        (chat(servers="http://a/v1"), "agents.x.servers must be a list of one or more texts"),
        (chat(servers=["localhost:8000"]), "agents.x.servers[0] is not a valid server URL: 'localhost:8000'"),
        (chat(servers=["file:///etc/passwd"]), "is not a valid server URL"),
        (chat(servers=["http://a/v1", "http://a/v1"]), "has a server twice"),
        (chat(protocol="describe-then-chose"), "did you mean 'describe-then-choose'"),
        (chat(protocol="of-tomorrow", sampling={}), "agents.x.protocol must be one of"),
        (chat(modality="caption"), "did you mean 'captions'"),
        (chat(sampling={}), "agents.x.sampling.max_tokens is missing"),
        (chat(sampling={"max_tokens": 0}), "1 or more"),
        (chat(sampling={"max_tokens": 9, "temperature": 3}), "a number from 0 to 2"),
        (chat(sampling={"max_tokens": 9, "top_p": 0}), "agents.x.sampling.top_p"),
        (chat(sampling={"max_tokens": 9, "seed": -1}), "agents.x.sampling.seed"),
        (chat(sampling={"max_tokens": 9, "temperatur": 1}), "did you mean 'temperature'"),
        (chat(sampling={"max_tokens": 9, "extra": {"messages": []}}), "may not set messages"),
        (chat(sampling={"max_tokens": 9, "extra": {"x": float("nan")}}), "cannot be sent as JSON"),
        (chat(sampling=[1]), "agents.x.sampling must be a mapping"),
        (chat(sampling={"max_tokens": 9, "max_completion_tokens": 9}), "both max_tokens and max_completion_tokens"),
        (chat(in_flight=0), "agents.x.in_flight"),
        (chat(server="vllm serve m"), "agents.x.server must be null or a mapping with command, port"),
        (
            chat(server={**SERVER, "command": "vllm serve m"}),
            "agents.x.server.command must be a list of one or more texts",
        ),
        (chat(server={**SERVER, "port": 99999}), "1 to 65535"),
        (chat(server={**SERVER, "env": {"A": 1}}), "put it in quotes"),
        (chat(server={**SERVER, "health": "health"}), "agents.x.server.health must be a text, such as '/health'"),
        (chat(price={"input": 1}), "agents.x.price.output is missing"),
        (chat(price={"input": -1, "output": 0}), "agents.x.price.input"),
    ],
)
def test_wrong_chat_entries(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_agent("x", entry)
    assert said in str(error.value), str(error.value)


OLD_JOURNALS = {
    "0.1": (
        "kind: chat\nmodel: m\nrevision: null\nservers:\n- http://127.0.0.1:8000/v1\nprotocol: describe-then-choose\n"
        "modality: captions\nsampling:\n  max_tokens: 64\n  temperature: 1\n  seed: 11\n",
        '{"model":"m","protocol":"describe-then-choose/caption/1","revision":"","sampling":'
        '{"extra":{},"max_tokens":64,"seed":11,"temperature":1.0,"top_p":1.0}}',
    ),
    "0.1, one token": (
        "kind: chat\nmodel: m\nrevision: abc\nservers: [http://a/v1/]\nprotocol: forced-choice\nmodality: videos\n"
        "sampling: {temperature: null, top_p: 0.5}\nserver: {command: [vllm], port: 8000, env: null}\n",
        '{"model":"m","protocol":"forced-choice/video/1","revision":"abc","sampling":'
        '{"extra":{},"max_tokens":4,"seed":null,"temperature":null,"top_p":0.5}}',
    ),
    "0.1, newer names": (
        "kind: chat\nmodel: m\nrevision: null\nservers: [http://a/v1]\nprotocol: naive-describe\nmodality: captions\n"
        "sampling: {max_completion_tokens: 9, extra: {b: 1, a: [2]}}\napi_key_env: null\nprice: null\n",
        '{"model":"m","protocol":"naive-describe/caption/1","revision":"","sampling":{"extra":{"a":[2],"b":1},'
        '"max_completion_tokens":9,"max_tokens":null,"seed":null,"temperature":0.0,"top_p":1.0}}',
    ),
}
"""Entries as they lie beside journals, which have no l1; and the identities that questions were asked under."""


@pytest.mark.parametrize("name", OLD_JOURNALS)
def test_entries_beside_older_journals_are_read_as_what_was_asked(name: str) -> None:
    text, identity = OLD_JOURNALS[name]
    agent = parse_agent("tiny", yaml.safe_load(text))
    assert isinstance(agent, ChatAgent)
    assert canonical(agent.identity()) == identity


@pytest.mark.parametrize(
    "entry",
    [
        chat(api_key_env="sk-verysecret-0123"),
        chat(servers="https://host/v1?key=verysecret"),
        chat(servers=["x?key=verysecret"]),
        chat(servers=["me:verysecret@host/v1"]),
        chat(servers=["https://host/v1", 7, "x?key=verysecret"], api_key="verysecret"),
        chat(server={**SERVER, "env": {"KEY": ["verysecret"]}}),
        chat(servers=["https://user:verysecret@host/v1"]),
        chat(servers=["https://host/v1?key=verysecret"]),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(entry: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        parse_agent("x", entry)
    assert "verysecret" not in str(error.value)
