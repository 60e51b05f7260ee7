"""The questions of the built-in protocols, byte for byte: stored answers and journals are valid only for these."""

from __future__ import annotations

import hashlib
import json

import pytest

from affectlake.judge.trials.plan import make_plan
from tests.support.chat import agent, materials, trials, video_frames

FROZEN = {
    ("describe-then-choose", "captions"): (
        "describe-then-choose/caption/1",
        "f4b1c4d8368eb8a673c859c2239c63f400fcb96604524422e41a2957855c1e16",
        "66ce6a756a73902d4592fb9486dda846b68f72dc5747997e815dd6f29383f43a",
    ),
    ("describe-then-choose", "videos"): (
        "describe-then-choose/video/1",
        "656402af2242e26f167e4c3285296581b788a158406adfc91f368c41c5e56785",
        "b36b95d030b2679d57c40f6bb6f614d200b24d3d11ad9acf0723abb1cb7e097c",
    ),
    ("naive-least-similar", "captions"): (
        "naive-least-similar/caption/1",
        "5a621e4b2b4f4561bef3d3a9632e1e38fa68a80a41fe02d537d9726ec7a4846c",
        "5a1b61f9907b48bbeac19cba475a7f2a69edd371eaf29eb5e99a8ca79ccc8fda",
    ),
    ("naive-least-similar", "videos"): (
        "naive-least-similar/video/1",
        "397a5648f6164035876b9a962089c12eeff5ce0601407c8b8180ee9b35c05bd8",
        "54c27bd4fc9bbd37f7ca5f30cfd51b23c15afabc055a08382d8ce93780bd6129",
    ),
    ("naive-describe", "captions"): (
        "naive-describe/caption/1",
        "d0cf368888e7bc37b5dc62a88656821d9c7ea3294b1d9d690e5c8444948a4dde",
        "c9da343cfb3ab1fc92d5490573c5f7756174fd8f970052c9b44a92eb05f5d552",
    ),
    ("naive-describe", "videos"): (
        "naive-describe/video/1",
        "85cf8f16bcad482a1b5dba25c0975856edbeeeb6d9bc05c0fb33b7d440f8af3f",
        "32e8a627c3430d5d5f085b986a292f71bcc9a195947aa167c5c2d9e1d5a418cb",
    ),
    ("naive-precautions", "captions"): (
        "naive-precautions/caption/1",
        "02450ed454b5bdf30786c413c8572810a4b619a5ebc81ad9ebf2657014963956",
        "ee33bb2c1dc973c84ede140959d77e2a362c8217b0e401d413117afdcfc352b5",
    ),
    ("naive-precautions", "videos"): (
        "naive-precautions/video/1",
        "c5b323bf996b070de9df6d08600d9f7276cba71491cc82d3bae0462ea1344db1",
        "fd4533944cd399e87686938e12bc826680456507d35e2e9e8227c469a2602727",
    ),
    ("forced-choice", "captions"): (
        "forced-choice/caption/1",
        "2fcdcca7d0c712eacc2fb78fb91a34085ee653607b55ad515a6ade519c426c8c",
        "5bcb7d21a8eabe3134841c875c98b446976146e64afddc53440c9bbdb9ce30c1",
    ),
    ("forced-choice", "videos"): (
        "forced-choice/video/1",
        "42f1826d02f1b4e3145ad66d99d8469be2c3e900270cabf701b69f786e9c9645",
        "2099529702f55b299737efeb37b6acca1d33bc408a024a8500acb3f63fe9dc60",
    ),
    ("question-first", "captions"): (
        "question-first/caption/1",
        "61a6bc2e808521e573b588f11a8ec44aab68c3132420ba96705ecd063d6e9af5",
        "d69aaaa7bc2e8f150f5f40018cbd380b08ff1894fa4f68c3871546c611304b40",
    ),
    ("question-first", "videos"): (
        "question-first/video/1",
        "575653d2f77f64d44ca0dc73520597976f5c6fcd8cdbfb6dd3ce48b58314a9c8",
        "416e513099d5d70f1b675ce898aa3b129c7aaf7c5dd65c69876af8c5b94e8e7f",
    ),
}
"""For each protocol and modality: the protocol's name in tables, and hashes of the keys and of the bodies."""


@pytest.mark.parametrize(("protocol", "modality"), FROZEN)
def test_keys_and_bodies_are_as_when_they_were_first_asked(protocol: str, modality: str) -> None:
    assert asked(protocol, modality) == FROZEN[protocol, modality]


def asked(protocol: str, modality: str) -> tuple[str, str, str]:
    """The name of a protocol, and hashes of the keys and of the bodies of two repeats of 36 trials."""
    sampling = {
        "max_tokens": 4 if protocol in ("forced-choice", "question-first") else 512,
        "temperature": 0.7,
        "seed": 11,
    }
    who = agent(protocol=protocol, modality=modality, sampling=sampling, revision="abc")
    shown = materials(9) if modality == "captions" else video_frames(9)
    keys, bodies = hashlib.sha256(), hashlib.sha256()
    for question in make_plan(who, trials(9, repeats=2), shown, root=5).questions():
        keys.update(question.key)
        bodies.update(json.dumps(question.body).encode())
    return who.protocol, keys.hexdigest(), bodies.hexdigest()
