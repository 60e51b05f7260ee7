"""Questions about one clip at a time: originals, edits and null edits, in random order, none told from another.

A question has the form of :class:`affectlake.judge.trials.questions.Question`, so that the collector and the journal
of triplets serve it: the three stimuli are one and the same, and no captions are drawn. Its key is the SHA-256 of::

    {"asked": {"model", "protocol", "revision", "sampling"},
     "frames": "SHA-256 of the hashes of the frames",
     "labels": ["Fear, safety-low, control-low"],
     "repeat": 0}

Names of edits and arms are not part of it: clips with the same bytes are one question, which is asked once.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from affectlake.errors import UsageError
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.ratings import ClipProtocol, clip_message, describe_then_name, perceive_then_rate
from affectlake.judge.trials.content import video_digest
from affectlake.judge.trials.questions import Question
from affectlake.judge.trials.request_keys import canonical, request_seed

TRIAL_SET = "edits"
"""Trial set of all questions about one clip."""


class Clip(NamedTuple):
    """One clip: an original, an edit or a null edit.

    Attributes
    ----------
    name : str
        Its name in the table ``edits``; it is not sent.
    stimulus_index : int
        The stimulus that it shows or was made from.
    frame_sha256 : tuple of str
        SHA-256 (hex) of each frame, in order.
    frames : tuple of bytes
        The JPEG frames.
    """

    name: str
    stimulus_index: int
    frame_sha256: tuple[str, ...]
    frames: tuple[bytes, ...]


class ClipAsked(NamedTuple):
    """What is asked about a clip.

    Attributes
    ----------
    clip : Clip
        The clip.
    protocol : ClipProtocol
        How it is asked.
    labels : tuple of str
        One text of labels for `perceive-then-rate`; those of all dimensions for `describe-then-name`.
    repeat : int
        Number of the repeat, from 0.
    """

    clip: Clip
    protocol: ClipProtocol
    labels: tuple[str, ...]
    repeat: int


def clip_key(agent: ChatAgent, asked: ClipAsked) -> bytes:
    """Return the key (32 bytes) of a question about a clip; see the module."""
    identity = agent.identity() | {"protocol": asked.protocol}
    frames = video_digest(asked.clip.frame_sha256)
    whole = {"asked": identity, "frames": frames, "labels": list(asked.labels), "repeat": asked.repeat}
    return hashlib.sha256(canonical(whole).encode()).digest()


def options_of(key: bytes, labels: Sequence[str]) -> list[str]:
    """Return the labels in the order in which the question of this key lists them, drawn from the key."""
    drawn = np.random.default_rng(int.from_bytes(key[:16], "big")).permutation(len(labels))
    return [labels[at] for at in drawn]


def clip_questions(agent: ChatAgent, asked: Iterable[ClipAsked]) -> Iterator[Question]:
    """Return the questions about clips, each key once, in an order that follows from the keys alone.

    Keys are hashes, so that the order is random with respect to stimulus, arm and dose, and the same in every run.

    Parameters
    ----------
    agent : ChatAgent
        The agent to ask: its model, revision and sampling. Its own protocol, which is about triplets, is not used.
    asked : iterable of ClipAsked
        What to ask.

    Raises
    ------
    UsageError
        If the agent is not shown videos, a clip has no frames, or labels are missing.
    """
    if agent.modality != "videos":
        raise UsageError(
            f"{agent.name} is shown {agent.modality}, and edits are videos",
            wanted="an agent with modality: videos",
            todo="collect the edits from an agent that is shown videos",
        )
    by_key: dict[bytes, ClipAsked] = {}
    for one in asked:
        _check(one)
        by_key.setdefault(clip_key(agent, one), one)
    return (_question(agent, key, by_key[key]) for key in sorted(by_key))


def _check(asked: ClipAsked) -> None:
    clip = asked.clip
    if not clip.frames or len(clip.frames) != len(clip.frame_sha256):
        raise UsageError(
            f"clip {clip.name} cannot be shown",
            wanted="one hash for each frame, and at least one frame",
            found=f"{len(clip.frames)} frames, {len(clip.frame_sha256)} hashes",
        )
    rates = asked.protocol == "perceive-then-rate/1"
    if not all(one.strip() for one in asked.labels) or (len(asked.labels) != 1 if rates else len(asked.labels) < 2):
        wanted = "the labels of one dimension" if rates else "the labels of two or more dimensions"
        raise UsageError(f"{asked.protocol} lacks labels", wanted=wanted, found=repr(asked.labels))


def _question(agent: ChatAgent, key: bytes, asked: ClipAsked) -> Question:
    clip, at = asked.clip, asked.clip.stimulus_index
    if asked.protocol == "perceive-then-rate/1":
        text = perceive_then_rate(asked.labels[0])
    else:
        text = describe_then_name(options_of(key, asked.labels))
    uri = f"data:video/jpeg;base64,{','.join(base64.b64encode(frame).decode('ascii') for frame in clip.frames)}"
    content = clip_message(video_digest(clip.frame_sha256), uri, text)
    body = {"model": agent.model, "messages": [{"role": "user", "content": content}]} | agent.sampling.as_fields()
    seed = request_seed(agent.sampling.seed, key)
    if seed is not None:
        body["seed"] = seed
    return Question(key, TRIAL_SET, at, at, at, asked.repeat, (1, 2, 3), None, at, body)
