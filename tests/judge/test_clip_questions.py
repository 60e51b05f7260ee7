"""Questions about one clip, asked over HTTP of a scripted server that measures the frames it is sent.

The server is not a model: it counts the red pixels of each frame and answers in words, by a rule that is stated in
`measured`. What is tested is everything around it: the question, the key, the journal, the reading, the effect.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affectlake.editing.effects import effect, mean_of_repeats
from affectlake.errors import UsageError
from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account
from affectlake.judge.responses.intensities import read_intensity, read_name
from affectlake.judge.trials.clip_questions import Clip, ClipAsked, clip_key, clip_questions, options_of
from tests.support.chat import agent as chat_agent
from tests.support.fault_server import FaultServer

FEAR, JOY = "Fear, safety-low", "Joy"
N, REPEATS = 8, 2
QUICK = Limits(backoff_s=0.01, longest_backoff_s=0.05, timeout_s=5.0)
ARMS = {"original": 20, "null": 20, "down": 0, "other": 20}
"""Side of the red square in each arm, pixels of 64, before a little is added for the stimulus."""


def agent(**changes: object) -> ChatAgent:
    return chat_agent(**{"modality": "videos", **changes})


def clip(name: str, stimulus: int, side: int, blue: int = 0) -> Clip:
    frames = []
    for shift in range(2):
        pixels = np.full((64, 64, 3), 40 + 3 * stimulus, np.uint8)
        pixels[5 + shift : 5 + shift + side, 5 : 5 + side] = (230, 20, 20)
        pixels[50 : 50 + blue, 50 : 50 + blue] = (20, 20, 230)
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, "JPEG", quality=90)
        frames.append(held.getvalue())
    return Clip(name, stimulus, tuple(hashlib.sha256(one).hexdigest() for one in frames), tuple(frames))


def clips() -> dict[tuple[str, int], Clip]:
    """Null edits differ a little from originals; the edit of another dimension adds blue and leaves red."""
    made = {}
    for s in range(N):
        for arm, side in ARMS.items():
            grown = side + s if side else 0
            made[arm, s] = clip(f"{arm}-{s}", s, grown - (arm == "null"), blue=9 if arm == "other" else 0)
    return made


def measured(body: bytes) -> str:
    """Answer by the red area of the frames sent: none of it is "No.", 1 % more is one point more."""
    shown, text = json.loads(body)["messages"][0]["content"]
    areas = []
    for frame in shown["video_url"]["url"].partition("base64,")[2].split(","):
        with Image.open(io.BytesIO(base64.b64decode(frame))) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        areas.append(float(((pixels[..., 0] > 150) & (pixels[..., 2] < 100)).mean()))
    area = 100 * float(np.mean(areas))
    scripted = "This is a scripted answer. There are 2 frames."
    if "Label: NUMBER" in text["text"]:
        wanted = FEAR if area > 1 else JOY
        number = next(re.finditer(rf"^(\d+)\. {re.escape(wanted)}$", text["text"], re.MULTILINE))[1]
        return f"{scripted}\n\nLabel: {number}"
    if area < 1:
        return f"{scripted}\n\nNo."
    return (
        f'{scripted}\n\nOn a scale from 1 to 10, I would rate the intensity of "{FEAR}" as a {min(10, area / 2):.0f}.'
    )


def rated(made: dict[tuple[str, int], Clip]) -> list[ClipAsked]:
    return [
        ClipAsked(one, "perceive-then-rate/1", (FEAR,), repeat) for one in made.values() for repeat in range(REPEATS)
    ]


def ask(asked: Sequence[ClipAsked], journal: Journal, server: FaultServer, who: ChatAgent | None = None) -> Account:
    return collect(clip_questions(who or agent(), asked), journal, Target((server.url,), "tiny-llama"), QUICK)


def test_an_edit_is_confirmed_and_an_edit_of_another_dimension_is_not(tmp_path: Path) -> None:
    made = clips()
    asked = rated(made)
    with FaultServer(says=measured, models=("tiny-llama",)).running() as server, Journal(tmp_path / "a.sqlite") as held:
        server.script.extend(["503", "reset"])
        assert ask(asked, held, server).n_answered == len(asked)
        answers = held.find(clip_key(agent(), one) for one in asked)
    ratings: dict[str, list[list[float]]] = {arm: [[], []] for arm in ARMS}
    for one in asked:
        found = read_intensity(answers[clip_key(agent(), one)].text or "", FEAR)
        assert found.reason is None
        ratings[one.clip.name.partition("-")[0]][0].append(one.clip.stimulus_index)
        ratings[one.clip.name.partition("-")[0]][1].append(float(found.value or 0))
    means = {a: mean_of_repeats(np.array(s, int), np.array(r), N) for a, (s, r) in ratings.items()}
    down = effect(means["down"], means["null"], "down")
    assert (down.n, down.signs.n_down, down.mean_after) == (N, N, 0)
    assert down.signs.p_value == 1 / 2**N
    assert down.ci_high < -2
    other = effect(means["other"], means["null"], "down")
    assert other.signs.n_down == 0
    assert other.difference > -1


def test_clips_with_the_same_bytes_are_asked_once(tmp_path: Path) -> None:
    made = clips()
    with FaultServer(says=measured, models=("tiny-llama",)).running() as server, Journal(tmp_path / "a.sqlite") as held:
        ask(rated(made), held, server)
        again = {key: one._replace(name=f"renamed {one.name}") for key, one in made.items()}
        account = ask(rated(again), held, server)
        assert (account.n_answered, account.n_held) == (0, N * len(ARMS) * REPEATS)
        again["down", 0] = clip("down-0", 0, 3)
        assert ask(rated(again), held, server).n_answered == REPEATS


def test_a_key_depends_on_all_that_is_asked() -> None:
    one = ClipAsked(clip("a", 0, 9), "perceive-then-rate/1", (FEAR,), 0)
    others = [
        one._replace(repeat=1),
        one._replace(labels=(JOY,)),
        one._replace(clip=clip("a", 0, 10)),
        one._replace(protocol="describe-then-name/1", labels=(FEAR, JOY)),
    ]
    keys = [clip_key(agent(), asked) for asked in [one, *others]]
    keys += [clip_key(agent(model="other"), one), clip_key(agent(revision="2"), one)]
    keys.append(clip_key(agent(sampling={"max_tokens": 64, "temperature": 0.1}), one))
    assert len(set(keys)) == len(keys)
    assert clip_key(agent(), one._replace(clip=one.clip._replace(name="b", stimulus_index=7))) == keys[0]


def test_the_judge_is_blind_and_sees_one_clip_at_a_time() -> None:
    questions = list(clip_questions(agent(), rated(clips())))
    for question in questions:
        said = json.dumps(question.body)
        assert not any(re.search(rf"\b{arm}\b", said) for arm in ARMS)
        assert sum(part["type"] == "video_url" for part in question.body["messages"][0]["content"]) == 1
    stimuli = np.array([question.i for question in questions])
    assert not np.all(np.diff(stimuli) >= 0)
    assert [q.key for q in clip_questions(agent(), rated(clips())[::-1])] == [q.key for q in questions]


def test_labels_are_listed_in_an_order_of_their_own_and_read_back(tmp_path: Path) -> None:
    labels = (FEAR, JOY, "Calmness", "Awe")
    made = clips()
    asked = [
        ClipAsked(made[arm, s], "describe-then-name/1", labels, 0) for arm in ("original", "down") for s in range(N)
    ]
    keys = [clip_key(agent(), one) for one in asked]
    assert len({tuple(options_of(key, labels)) for key in keys}) > 5
    with FaultServer(says=measured, models=("tiny-llama",)).running() as server, Journal(tmp_path / "a.sqlite") as held:
        ask(asked, held, server)
        answers = held.find(keys)
    for key, one in zip(keys, asked, strict=True):
        options = options_of(key, labels)
        named = read_name(answers[key].text or "", options)
        assert named.option is not None
        assert options[named.option] == (FEAR if one.clip.name.startswith("original") else JOY)


def test_what_cannot_be_asked_is_refused() -> None:
    good = ClipAsked(clip("a", 0, 9), "perceive-then-rate/1", (FEAR,), 0)
    with pytest.raises(UsageError, match="edits are videos"):
        clip_questions(chat_agent(), [good])
    for bad in (
        good._replace(labels=()),
        good._replace(labels=(FEAR, JOY)),
        good._replace(labels=(" ",)),
        good._replace(protocol="describe-then-name/1"),
    ):
        with pytest.raises(UsageError, match="lacks labels"):
            clip_questions(agent(), [bad])
    with pytest.raises(UsageError, match="cannot be shown"):
        clip_questions(agent(), [good._replace(clip=Clip("a", 0, (), ()))])


def test_the_wording_is_that_of_the_figure() -> None:
    (question,) = clip_questions(
        agent(), [ClipAsked(clip("a", 0, 9), "perceive-then-rate/1", ("Fear, safety-low, control-low",), 0)]
    )
    assert question.body["messages"][0]["content"][1]["text"] == (
        "Now we need to perform a role-playing task. Your role is an expert in analyzing the emotions conveyed in "
        "videos. Firstly, please describe the content and your evoked emotional response of the video.\n\n"
        'Then, report whether you can perceive the emotion of "Fear, safety-low, control-low" from this video. If so, '
        "rate its intensity on a scale from 1 to 10, with a higher score indicating a greater degree of intensity. "
        'Otherwise, simply respond with "No." Explain the reasons for this result.'
    )
