"""Entries of ``agents``, right and wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from affectlake.errors import UsageError
from affectlake.judge import FeaturesAgent, RatingsAgent, SentenceTransformers, TfidfSvd, parse_agent


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
