"""Protocols: the named and versioned wordings of a trial, and the requests made from them.

The texts are constants; a changed text needs a new version. Answers to different protocols are never mixed.

The texts are those of Du et al. 2025, 'Collecting behavioral responses from MLLMs' and '… from LLMs', and of
Supplementary Fig. 1, as far as they are printed; reconstructed parts are marked in comments. ``/n`` in the paper is a
line break here. Quotation marks around a prompt in the paper are not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from affectlake.errors import UsageError, nearest
from affectlake.judge.sampling import Sampling

Modality = Literal["captions", "videos"]

TABLES: Mapping[Modality, str] = {"captions": "captions", "videos": "frames"}
"""Name of the table with what is shown of a stimulus, by modality."""

Family = Literal["describe-then-choose", "naive-least-similar", "naive-describe", "naive-precautions", "forced-choice"]
"""Names of protocols in ``params.yaml``; each has a version for captions and one for videos."""

Reading = Literal["key-phrase", "location", "one-token"]

CHOICES = ("1", "2", "3")
"""The possible one-token answers: the position, from 1."""

TOP_LOGPROBS = 20
"""Number of log-probabilities that a one-token protocol asks for: the most that servers return by default."""


@dataclass(frozen=True)
class Protocol:
    """A wording of trials.

    Parameters
    ----------
    name : str
        Such as ``describe-then-choose/caption``.
    version : int
        Version number; it is raised whenever a text or its assembly changes.
    modality : {'captions', 'videos'}
        What is shown of a stimulus.
    before, after : str
        Text before and after the three stimuli; may be empty.
    reading : {'key-phrase', 'location', 'one-token'}
        How the answer is parsed (:mod:`affectlake.judge.responses.parsing`).
    labelled : bool
        Whether each video is preceded by its number.
    """

    name: str
    version: int
    modality: Modality
    before: str
    after: str
    reading: Reading = "key-phrase"
    labelled: bool = False

    @property
    def full_name(self) -> str:
        """Name and version, as tables hold it: ``describe-then-choose/caption/1``."""
        return f"{self.name}/{self.version}"


_ROLE = (
    "Now we need to perform a role-playing task. Your role is an expert in analyzing the emotions conveyed in videos"
)

_QUESTION = (
    "Then, tell me Which clip evokes an emotional response that is noticeably different from the other two? "
    '(The answer format is "Video+ID is noticeably different from the other two") '
    "Explain the reason for this difference."
)

# 'Collecting behavioral responses from MLLMs', verbatim; this is template 4 of Supplementary Fig. 1 with one more
# sentence about the index
_DESCRIBE_VIDEO = Protocol(
    name="describe-then-choose/video",
    version=1,
    modality="videos",
    before=(
        f"{_ROLE}.\n"
        "Firstly, please describe the content and your evoked emotional response of each of these videos individually."
    ),
    after=(
        f"{_QUESTION}\n"
        "Precautions:\n"
        "1. You should focus your judgement on the emotional tone, never be influenced by the video index or location "
        "when making judgments. "
        "2. Assume you are an emotional judgment expert with the ability to feel specific emotions for each video. "
        "Do not provide ambiguous answers. Never be influenced by the video index or location when making judgments. "
        "3. You are not given additional constraints as to the strategy you should use."
    ),
)

# 'Collecting behavioral responses from LLMs', verbatim
_DESCRIBE_CAPTION = Protocol(
    name="describe-then-choose/caption",
    version=1,
    modality="captions",
    before=(
        f"{_ROLE}, each video is replaced by its corresponding textual description.\n"
        "Firstly, please describe your evoked emotional response of each of these videos individually. "
        "Then, tell me Which video evokes an emotional response that is noticeably different from the other two? "
        "Never be influenced by the video index when making judgments. "
        '(The answer format is "Video+ID is noticeably different from the other two.") '
        "Explain the reason for this difference.\n"
        "Precautions: 1. You should focus your judgement on the emotional tone, never be influenced by the video index "
        "when making judgments.\n"
        "2. Assume you are an emotional judgment expert with the ability to feel specific emotions for each video. "
        "Do not provide ambiguous answers. Never be influenced by the video index when making judgments.\n"
        "3. You are not given additional constraints as to the strategy you should use."
    ),
    after="",
)

# Supplementary Fig. 1 a-c: templates that "presented all three videos before the question". The texts are verbatim.
# The paper used them with videos. Their use with captions in place of the videos, in the same words, is not from the
# paper.
_TEMPLATE_1 = (
    "You are shown three object images side by side and are asked to report the image that was the least similar to "
    "the other two. You should focus your judgement on the object, but you are not given additional constraints as to "
    "the strategy you should use. If you did not recognize the object, you should base your judgement on your best "
    "guess of what the object could be.\n"
    "1. Tell me your answer.\n"
    "2. Tell me the location of the object you have chosen.\n"
    "3. Explain the reasons."
)
_TEMPLATE_2 = (
    f"{_ROLE}.\n"
    "Firstly, please describe the content and your evoked emotional response of each of these videos individually. "
    f"{_QUESTION}"
)
_TEMPLATE_3 = (
    f"{_TEMPLATE_2}\n"
    "Precautions:\n"
    "1. You should focus your judgement on the emotional tone, never be influenced by the video index or location "
    "when making judgments.\n"
    "2. Assume you are an emotional judgment expert with the ability to feel specific emotions for each video. "
    "Do not provide ambiguous answers.\n"
    "3. You are not given additional constraints as to the strategy you should use."
)

# Not in the paper: a one-token answer whose log-probabilities are stored. The wording follows the paper's question.
_FORCED = (
    "Which of the three {what} evokes an emotional response that is noticeably different from the other two? "
    "Focus on the emotional tone; never be influenced by the index of a video. "
    "Answer with the number of the video alone: 1, 2 or 3."
)


def _naive(name: str, text: str, reading: Reading) -> list[Protocol]:
    return [
        Protocol(f"{name}/video", 1, "videos", before="", after=text, reading=reading),
        Protocol(f"{name}/caption", 1, "captions", before="", after=text, reading=reading),
    ]


PROTOCOLS: dict[str, Protocol] = {
    one.name: one
    for one in (
        _DESCRIBE_VIDEO,
        _DESCRIBE_CAPTION,
        *_naive("naive-least-similar", _TEMPLATE_1, "location"),
        *_naive("naive-describe", _TEMPLATE_2, "key-phrase"),
        *_naive("naive-precautions", _TEMPLATE_3, "key-phrase"),
        Protocol(
            name="forced-choice/video",
            version=1,
            modality="videos",
            before="You judge the emotions that three videos evoke.",
            after=_FORCED.format(what="videos"),
            reading="one-token",
            labelled=True,
        ),
        Protocol(
            name="forced-choice/caption",
            version=1,
            modality="captions",
            before="You judge the emotions that three videos evoke. Each video is replaced by a textual description.",
            after=_FORCED.format(what="videos"),
            reading="one-token",
        ),
    )
}


def protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises
    ------
    UsageError
        If there is no such protocol; the message suggests the most similar name.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}", allowed=", ".join(PROTOCOLS), todo=nearest(name, PROTOCOLS))
    return PROTOCOLS[name]


def neutralise(caption: str) -> str:
    """Return a caption as it is shown, without anything that a model could interpret as markup.

    Chat templates mark turns and media with tokens in angle or square brackets (``<|im_start|>``, ``<s>``,
    ``[INST]``, ``<start_of_turn>``, ``<video>``, ``<｜User｜>``), and tokenizers interpret such tokens anywhere in a
    text. Therefore ``< >`` become ``‹ ›`` and ``[ ]`` become ``( )``, which no template uses. Line breaks, control
    characters and runs of blanks become one blank, so that a caption cannot look like a further video. Words are not
    changed.
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in caption)
    return " ".join(printable.translate(_HARMLESS).split())


_HARMLESS = str.maketrans("<>[]＜＞［］", "‹›()‹›()")


class Wording:
    """Factory of request bodies for one model, protocol and sampling. The constant parts are made once.

    Parameters
    ----------
    protocol : Protocol
        The protocol.
    model : str
        The server's name for the model.
    sampling : Sampling
        The sampling settings.
    """

    def __init__(self, protocol: Protocol, model: str, sampling: Sampling) -> None:
        self.protocol = protocol
        self.sampling = sampling
        self._head = f"{protocol.before}\n" if protocol.before else ""
        self._tail = f"\n{protocol.after}" if protocol.after else ""
        self._fields: dict[str, Any] = {"model": model}
        self._last = sampling.as_fields()
        if protocol.reading == "one-token":
            self._last |= {
                "logprobs": True,
                "top_logprobs": TOP_LOGPROBS,
                "structured_outputs": {"choice": list(CHOICES)},
            }

    def of_captions(self, captions: Sequence[str], seed: int | None) -> dict[str, Any]:
        """Return the body that asks about three captions.

        Parameters
        ----------
        captions : sequence of str
            The neutralised captions, in the order shown. They are written as in the paper:
            ``[Video_1: caption_1], [Video_2: caption_2], [Video_3: caption_3]``.
        seed : int or None
            Seed of this request.
        """
        first, second, third = captions
        shown = f"[Video_1: {first}], [Video_2: {second}], [Video_3: {third}]"
        return self._body(f"{self._head}{shown}{self._tail}", seed)

    def of_videos(self, videos: Sequence[tuple[str, str]], seed: int | None) -> dict[str, Any]:
        """Return the body that asks about three videos.

        Parameters
        ----------
        videos : sequence of (str, str)
            Stable name and data URI of each, in the order shown: a list of JPEG frames
            (``data:video/jpeg;base64,FRAME,FRAME,…``), so that the server does not sample frames itself.
        seed : int or None
            Seed of this request.
        """
        content: list[dict[str, Any]] = []
        if self.protocol.before:
            content.append({"type": "text", "text": self.protocol.before})
        for number, (name, uri) in enumerate(videos, start=1):
            if self.protocol.labelled:
                content.append({"type": "text", "text": f"Video {number}:"})
            content.append({"type": "video_url", "video_url": {"url": uri}, "uuid": name})
        if self.protocol.after:
            content.append({"type": "text", "text": self.protocol.after})
        return self._body(content, seed)

    def _body(self, content: str | list[dict[str, Any]], seed: int | None) -> dict[str, Any]:
        body = self._fields | {"messages": [{"role": "user", "content": content}]} | self._last
        if seed is not None:
            body["seed"] = seed
        return body
