"""What the protocols send, word for word, against the prompts that the paper prints (in tests/fixtures)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlake.judge.protocols.builtin import BUILT_IN, built_in
from affectlake.judge.protocols.wording import Wording
from affectlake.judge.sampling import Sampling

PRINTED: dict[str, dict[str, str]] = yaml.safe_load(
    (Path(__file__).parents[1] / "fixtures" / "published_prompts.yaml").read_text(encoding="utf-8")
)
SAMPLING = Sampling(max_tokens=100, temperature=0.5, top_p=0.9)
VIDEOS = [(name, f"data:video/jpeg;base64,{name}") for name in ("x", "y", "z")]

STRAY = {"template-1": ['be."'], "template-2": ['videos."'], "template-3": ['videos."'], "template-4": ['videos."']}
"""Where quotation marks of the print do not match: a prompt is closed there and goes on without being opened."""

AGAIN = " Never be influenced by the video index or location when making judgments."
"""The sentence by which the prompt of the methods differs from template 4, the end of its second precaution."""

NOT_PRINTED = {
    "naive-least-similar/caption": "naive-least-similar/video",
    "naive-describe/caption": "naive-describe/video",
    "naive-precautions/caption": "naive-precautions/video",
    "forced-choice/video": None,
    "forced-choice/caption": None,
    "question-first/video": None,
    "question-first/caption": None,
}
"""Protocols that the paper does not have: its templates with captions, and one-token answers."""


def printed(name: str, part: str) -> str:
    """A printed prompt as text: without the quotation marks around it, and with /n and paragraphs as line breaks."""
    text = PRINTED[name][part].strip()
    for stray in STRAY.get(name, ()):
        text = text.replace(f"{stray}\n", f"{stray[:-1]}\n")
    text = text.removeprefix('"').removesuffix('"')
    return re.sub(r"\s*(?:/n|\n)\s*", "\n", text)


def sent(name: str) -> list[str]:
    """The content of the message: its texts, and VIDEO for each video."""
    wording = Wording(built_in(name), "m", SAMPLING)
    body: dict[str, Any] = (
        wording.of_videos(VIDEOS, None)
        if name.endswith("/video")
        else wording.of_captions(("caption_1", "caption_2", "caption_3"), None)
    )
    (message,) = body["messages"]
    assert message["role"] == "user"
    content = message["content"]
    return [content] if isinstance(content, str) else [part.get("text", "VIDEO") for part in content]


def test_the_prompt_of_the_mllm_is_interleaved_with_the_videos() -> None:
    assert PRINTED["mllm"]["shown"] == "{[Video_1], [Video_2], [Video_3]}"
    assert sent("describe-then-choose/video") == [
        printed("mllm", "before"), "VIDEO", "VIDEO", "VIDEO", printed("mllm", "after")
    ]  # fmt: skip


def test_the_prompt_of_the_llm_is_followed_by_the_captions() -> None:
    """The braces around the list of captions are the paper's notation."""
    captions = PRINTED["llm"]["shown"].removeprefix("{").removesuffix("}")
    assert sent("describe-then-choose/caption") == [printed("llm", "before") + "\n" + captions]


@pytest.mark.parametrize(
    ("name", "family"),
    [("template-1", "naive-least-similar"), ("template-2", "naive-describe"), ("template-3", "naive-precautions")],
)
def test_the_first_templates_show_the_videos_before_the_question(name: str, family: str) -> None:
    assert sent(f"{family}/video") == ["VIDEO", "VIDEO", "VIDEO", printed(name, "after")]


def test_template_4_is_the_prompt_of_the_methods_less_one_sentence() -> None:
    """It is not a protocol of its own; line breaks between the precautions differ too."""
    before, *videos, after = sent("describe-then-choose/video")
    assert (before, videos) == (printed("template-4", "before"), ["VIDEO"] * 3)
    assert after.count(AGAIN) == 1
    assert after.replace(AGAIN, "").split() == printed("template-4", "after").split()


def test_every_protocol_is_printed_or_named_as_not_printed() -> None:
    compared = {f"naive-{kind}/video" for kind in ("least-similar", "describe", "precautions")}
    assert set(BUILT_IN) == {"describe-then-choose/video", "describe-then-choose/caption"} | compared | set(NOT_PRINTED)
    for name, template in NOT_PRINTED.items():
        if template is not None:  # the same words as with videos
            assert (built_in(name).before, built_in(name).after) == (
                built_in(template).before,
                built_in(template).after,
            )
    stated = {text for prompt in PRINTED.values() for part, text in prompt.items() if part != "where"}
    assert not any(built_in("forced-choice/video").after in text for text in stated)


def test_the_print_says_what_it_said() -> None:
    """Its few words that are easily lost: a fixture that was mended to fit would prove nothing."""
    assert "tell me Which clip evokes" in PRINTED["mllm"]["after"] and "tell me Which video" in PRINTED["llm"]["before"]
    assert '"Video+ID is noticeably different from the other two.")' in PRINTED["llm"]["before"]
    assert '"Video+ID is noticeably different from the other two")' in PRINTED["mllm"]["after"]
    assert PRINTED["mllm"]["after"].count("judgement") == 1 and PRINTED["llm"]["before"].count(" /n ") == 4
    assert {name: len(prompt["where"]) > 10 for name, prompt in PRINTED.items()} == dict.fromkeys(PRINTED, True)
