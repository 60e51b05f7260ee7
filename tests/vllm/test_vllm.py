"""Collecting from real vLLM servers: captions from a Llama, frames from a Qwen2-VL, both tiny and with random weights.

Run with ``make test-vllm``; it takes some minutes, most of them to start the servers.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affectlake.errors import CollectionError
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.constraints import PROBE
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.server_process import Served
from affectlake.judge.trials.questions import Question
from tests.vllm.servers import make_models, python, question, vllm

pytestmark = pytest.mark.vllm
CHOICES = ["1", "2", "3"]
LIMITS = Limits(concurrency=16)
FORCED = {
    "max_tokens": 1,
    "temperature": 0,
    "logprobs": True,
    "top_logprobs": 5,
    "structured_outputs": {"choice": CHOICES},
}
FREE = {"max_tokens": 8, "temperature": 1.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "AFFECTLAKE_VLLM_PYTHON" not in os.environ or not python().exists():
        pytest.skip("needs vLLM's environment: run `make test-vllm`")
    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    return folder


@pytest.fixture(scope="module")
def llama(models: Path) -> Iterator[Served]:
    with vllm(models / "tiny-llama", models / "llama.log", "--max-model-len", "2048") as served:
        assert served.started_here
        print(f"tiny-llama ready after {served.seconds:.0f} s")
        yield served


@pytest.fixture(scope="module")
def qwen(models: Path) -> Iterator[Served]:
    limit = ("--limit-mm-per-prompt", '{"video": 3, "image": 0}', "--max-model-len", "4096")
    with vllm(models / "tiny-qwen2-vl", models / "qwen.log", *limit) as served:
        print(f"tiny-qwen2-vl ready after {served.seconds:.0f} s")
        yield served


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "answers.sqlite") as opened:
        yield opened


def rows(journal: Journal) -> list[Answer]:
    shard = journal.seal(10**9)
    assert shard is not None
    return [row for batch in journal.read(shard) for row in batch]


def caption_question(number: int, sampling: dict[str, object]) -> Question:
    captions = "".join(f"Video {p}: clip {number * 3 + p} shows a man with a dog.\n" for p in (1, 2, 3))
    return question(number, "tiny-llama", f"{captions}Which is the odd one out?", number, **sampling)


def clip(number: int, n_frames: int = 4) -> str:
    """Return a moving square as a data URI of JPEG frames."""
    frames = []
    for t in range(n_frames):
        pixels = np.full((256, 256, 3), 40, dtype=np.uint8)
        at = (17 * number + 20 * t) % 200
        pixels[at : at + 40, at : at + 40] = (250, 60 + 13 * number % 180, 40)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, format="JPEG")
        frames.append(base64.b64encode(sink.getvalue()).decode())
    return "data:video/jpeg;base64," + ",".join(frames)


def video_question(number: int, sampling: dict[str, object], model: str = "tiny-qwen2-vl") -> Question:
    content: list[dict[str, object]] = []
    for position in (1, 2, 3):
        stimulus = (number + position) % 9
        video = {"type": "video_url", "video_url": {"url": clip(stimulus)}, "uuid": f"clip-{stimulus}"}
        content += [{"type": "text", "text": f"Video {position}: "}, video]
    content.append({"type": "text", "text": "Which is the odd one out?"})
    return question(number, model, content, number % 9, **sampling)


def check_forced(row: Answer) -> None:
    """Check that an answer is one of the choices, with log-probabilities that name it."""
    assert row.text in CHOICES
    assert row.logprobs is not None
    first = json.loads(row.logprobs)["content"][0]
    assert first["token"] == row.text
    assert first["logprob"] <= 0
    assert len(first["top_logprobs"]) >= 3
    assert row.completion_tokens >= 1


def test_captions_forced_choice(llama: Served, journal: Journal) -> None:
    planned = [caption_question(n, FORCED) for n in range(300)]
    target = Target((llama.url,), "tiny-llama")
    first = collect(planned[:120], journal, target, LIMITS)
    account = collect(planned, journal, target, LIMITS)
    assert (first.n_answered, account.n_held, account.n_answered) == (120, 120, 180)
    assert (account.ending, account.n_failed) == ("complete", 0)
    assert account.servers[0].engine.startswith("0.")
    found = rows(journal)
    assert {row.key for row in found} == {q.key for q in planned}
    for row in found:
        check_forced(row)
        assert row.prompt_tokens > 30


def test_captions_free_text_is_kept_verbatim_and_repeats_under_a_seed(llama: Served, tmp_path: Path) -> None:
    planned = [caption_question(n, {**FREE, "seed": n}) for n in range(100)]
    texts = []
    for name in ("a", "b"):
        with Journal(tmp_path / name) as journal:
            account = collect(planned, journal, Target((llama.url,), "tiny-llama"), LIMITS)
            assert (account.n_answered, account.n_failed) == (100, 0)
            texts.append({row.key: row.text for row in rows(journal)})
    assert len(set(texts[0].values())) > 50
    same = sum(texts[0][key] == texts[1][key] for key in texts[0])
    assert same >= 90  # not all: a batch's shape moves the last bits (vLLM promises no more)


def test_videos_forced_choice(qwen: Served, journal: Journal) -> None:
    planned = [video_question(n, FORCED) for n in range(36)]
    account = collect(planned, journal, Target((qwen.url,), "tiny-qwen2-vl"), Limits(concurrency=4))
    assert (account.ending, account.n_answered, account.n_failed) == ("complete", 36, 0)
    for row in rows(journal):
        check_forced(row)
        assert row.prompt_tokens > 100  # the frames are tokens


def test_videos_free_text(qwen: Served, journal: Journal) -> None:
    planned = [video_question(n, {**FREE, "seed": n}) for n in range(12)]
    account = collect(planned, journal, Target((qwen.url,), "tiny-qwen2-vl"), Limits(concurrency=4))
    assert (account.n_answered, account.n_failed) == (12, 0)


def test_a_model_without_video_is_told_at_once(llama: Served, journal: Journal) -> None:
    planned = [video_question(n, FORCED, "tiny-llama") for n in range(60)]
    account = collect(planned, journal, Target((llama.url,), "tiny-llama"), LIMITS)
    assert account.ending == "circuit"
    assert "does not accept this video" in account.why
    assert len(journal) == 0


def test_one_question_that_is_too_long_is_a_row(llama: Served, journal: Journal) -> None:
    planned = [caption_question(n, FORCED) for n in range(40)]
    planned[30] = question(30, "tiny-llama", "word " * 9_000, **FORCED)
    account = collect(planned, journal, Target((llama.url,), "tiny-llama"), Limits(concurrency=4, start=2))
    assert (account.n_answered, account.errors) == (39, {"rejected": 1})
    bad = [row for row in rows(journal) if row.error_kind]
    assert "2048" in (bad[0].error_words or "")


def test_vllm_limits_answers_by_structured_outputs_and_masks_the_others(llama: Served, journal: Journal) -> None:
    body = caption_question(0, FORCED).body
    probe = {**body, "messages": [{"role": "user", "content": PROBE}]}
    planned = [caption_question(n, FORCED) for n in range(8)]
    collect(planned, journal, Target((llama.url,), "tiny-llama", probe=probe), LIMITS)
    assert {(row.limited_by, row.masked) for row in rows(journal)} == {("structured_outputs", 1)}


def test_a_wrong_model_name_is_told_before_anything_is_asked(llama: Served, journal: Journal) -> None:
    with pytest.raises(CollectionError, match="does not serve 'tiny-lama'") as caught:
        collect([caption_question(0, FREE)], journal, Target((llama.url,), "tiny-lama"), LIMITS)
    assert "tiny-llama" in str(caught.value)
