"""A protocol: the content of a protocol file, and the content of a request made from it.

A protocol is a file ``protocols/NAME.yaml`` of a lake, or one of the built-in files
(:mod:`affectlake.judge.protocols.builtin`); both have the same form. Answers to different protocols are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from affectlake.judge.protocols.readings import NUMBERS, AnyReading, Labels
from affectlake.validation import Entry, Text, mistake

Modality = Literal["captions", "videos"]

TABLES: Mapping[Modality, str] = {"captions": "captions", "videos": "frames"}
"""Name of the table with what is shown of a stimulus, by modality."""

TOP_LOGPROBS = 20
"""Number of log-probabilities that a one-token protocol asks for: the most that servers return by default."""

CAPTION, LABEL = "{caption}", "{n}"
"""Places in `stimulus`: that of the caption, and that of the label of the position."""

_SLOT = re.compile(r"\{[a-z_]+\}")
_DIGITS_SHOWN = 12
_PLACEHOLDERS = ("stimulus-1", "stimulus-2", "stimulus-3")

Part: TypeAlias = dict[str, Any]
"""One part of a message: a text, or a video."""


def _different(labels: Labels) -> Labels:
    if len({label.strip().lower() for label in labels}) < 3:
        raise mistake("are not all different", found=", ".join(labels))
    return labels


Lines = Annotated[str, AfterValidator(lambda text: text.strip("\n"))]
"""A text without line breaks at its ends."""


class Protocol(Entry):
    """A wording of trials, and how its answers are read.

    The three stimuli are written between `before` and `after`: captions in one text, videos as parts of the message.
    """

    modality: Modality = Field(description="What is shown of a stimulus.")
    before: Lines = Field(default="", description="Text before the three stimuli.")
    stimulus: str = Field(
        description="How a stimulus is written: with captions a text that contains {caption}, with videos the text "
        "before each video, which may be empty; {n} stands for its label."
    )
    separator: str = Field(default=", ", description="Text between two captions.")
    after: Lines = Field(default="", description="Text after the three stimuli.")
    labels: Annotated[
        tuple[Annotated[Text, Field(max_length=20)], Annotated[Text, Field(max_length=20)],
              Annotated[Text, Field(max_length=20)]],
        AfterValidator(_different),
    ] = Field(
        default=NUMBERS,
        strict=False,
        description="Labels of the first, the second and the third stimulus shown; they are the possible answers of "
        "one-token.",
    )  # fmt: skip
    answer: AnyReading = Field(description="How the answer is read.")
    example: dict[Text, Annotated[int, Field(ge=1, le=3)] | None] = Field(
        default_factory=dict,
        description="Answers, each with the position that must be read from it; null: no position. They are checked "
        "when the file is read.",
        examples=[{"Video 2 is noticeably different": 2}],
    )

    @model_validator(mode="after")
    def _has_places(self) -> Self:
        if self.modality == "captions" and CAPTION not in self.stimulus:
            raise mistake(
                "has no place for the stimulus",
                at="stimulus",
                wanted=f"a text with {CAPTION}",
                found=repr(self.stimulus),
            )
        allowed = (CAPTION, LABEL) if self.modality == "captions" else (LABEL,)
        for slot in _SLOT.findall(self.stimulus):
            if slot not in allowed:
                raise mistake(f"contains {slot}", at="stimulus", allowed=", ".join(allowed))
        for key in ("before", "separator", "after"):
            if CAPTION in getattr(self, key):
                raise mistake(
                    f"contains {CAPTION}",
                    at=key,
                    wanted="the text around the stimuli",
                    todo="write how a stimulus is shown in `stimulus`; the three are shown between before and after",
                )
        if not (self.before + self.after).strip():
            raise mistake("has no text", at="before", wanted="a question in before or after")
        return self

    @property
    def asks_one_token(self) -> bool:
        """Whether the answer is one token, of which the log-probabilities are asked for."""
        return self.answer.read == "one-token"

    @property
    def full_name(self) -> str:
        """Name and hash, as tables hold it: ``objects/0123456789ab``. The hash is that of all that is sent.

        How the answer is read is not part of the hash: stored answers can be read again by another rule.
        """
        return f"{self.name}/{self.digest[:_DIGITS_SHOWN]}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what is sent about three placeholders."""
        sent: list[Any] = [self.modality, self.fields]
        if self.modality == "captions":
            sent.append(self.text_with(_PLACEHOLDERS))
        else:
            sent.append(self.parts_with([(name, name) for name in _PLACEHOLDERS]))
        return hashlib.sha256(json.dumps(sent, sort_keys=True, ensure_ascii=True).encode()).hexdigest()

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of a request that the protocol sets besides its message."""
        if not self.asks_one_token:
            return {}
        return {
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
            "structured_outputs": {"choice": list(self.labels)},
        }

    @cached_property
    def _pieces(self) -> list[list[str]]:
        """The text around the caption of each position."""
        return [self.stimulus.replace(LABEL, label).split(CAPTION) for label in self.labels]

    def text_with(self, captions: Sequence[str]) -> str:
        """Return the text that shows three captions, given in the order shown."""
        shown = [caption.join(pieces) for caption, pieces in zip(captions, self._pieces, strict=True)]
        head = f"{self.before}\n" if self.before else ""
        tail = f"\n{self.after}" if self.after else ""
        return f"{head}{self.separator.join(shown)}{tail}"

    def parts_with(self, videos: Sequence[tuple[str, str]]) -> list[Part]:
        """Return the parts of the message that shows three videos.

        Parameters
        ----------
        videos : sequence of (str, str)
            Stable name and data URI of each, in the order shown.
        """
        content: list[Part] = []
        if self.before:
            content.append({"type": "text", "text": self.before})
        for label, (name, uri) in zip(self.labels, videos, strict=True):
            if self.stimulus:
                content.append({"type": "text", "text": self.stimulus.replace(LABEL, label)})
            content.append({"type": "video_url", "video_url": {"url": uri}, "uuid": name})
        if self.after:
            content.append({"type": "text", "text": self.after})
        return content


class BuiltInProtocol(Protocol):
    """A protocol that comes with affectlake; it has a version in place of a hash."""

    version: int = Field(ge=1, description="Version number; it is raised whenever a text or its assembly changes.")

    @property
    def full_name(self) -> str:
        """Name and version, as tables hold it: ``describe-then-choose/caption/1``."""
        return f"{self.name}/{self.version}"
