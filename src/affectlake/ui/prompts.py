"""The prompt of a stored answer, made again from its protocol and the captions or frames of its version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from affectlake.errors import AffectlakeError
from affectlake.judge.protocols.builtin import BUILT_IN, built_in
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.protocols.wording import neutralise
from affectlake.lake.files.git import git_bytes
from affectlake.pipelines.params.protocols import parse_protocol, path_of
from affectlake.ui.opened import OpenVersion


class Part(NamedTuple):
    """A part of a prompt: a text, or the frames of the stimulus with an index."""

    text: str
    stimulus: int | None = None


class Prompt(NamedTuple):
    """A prompt as it was sent.

    Attributes
    ----------
    parts : list of Part
        Its parts; empty if it cannot be made again.
    missing : str
        Why it cannot be made again; empty if it can.
    """

    parts: list[Part]
    missing: str = ""


def protocol_named(opened: OpenVersion, full_name: str) -> Protocol | None:
    """Return the protocol with the name that tables hold, ``NAME/VERSION`` or ``NAME/HASH``; None if it is unknown."""
    return opened.once(("protocol", full_name), lambda: _protocol(opened, full_name))


def _protocol(opened: OpenVersion, full_name: str) -> Protocol | None:
    name = full_name.rpartition("/")[0]
    if name in BUILT_IN:
        own = built_in(name)
        return own if own.full_name == full_name else None
    try:
        path = path_of(name)
        content = git_bytes(opened.root, "cat-file", "blob", f"{opened.version.commit}:./{path}")
        found = parse_protocol(content, name, str(path))
    except AffectlakeError:
        return None
    return found if found.full_name == full_name else None


def prompt_of(opened: OpenVersion, response: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a row of ``responses``.

    Parameters
    ----------
    opened : OpenVersion
        The version, which has the protocol and the captions.
    response : mapping
        ``protocol, shown_1, …, caption_1, …`` of the row.
    """
    asked = protocol_named(opened, str(response["protocol"]))
    shown = [response[f"shown_{n}"] for n in (1, 2, 3)]
    if asked is None:
        return Prompt([], f"the text of the protocol {response['protocol']} is not in this version")
    if None in shown:
        return Prompt([], "the order in which the stimuli were shown was not recorded")
    if asked.modality == "videos":
        parts = asked.parts_with([(str(stimulus), "") for stimulus in shown])
        return Prompt(
            [Part("", int(part["uuid"])) if part["type"] == "video_url" else Part(str(part["text"])) for part in parts]
        )
    captions = [_caption(opened, shown[n], response[f"caption_{n + 1}"]) for n in range(3)]
    if None in captions:
        return Prompt([], f"a caption that was shown is not in {opened.whereabouts}")
    return Prompt([Part(asked.text_with([neutralise(text or "") for text in captions]))])


def _caption(opened: OpenVersion, stimulus: int, caption: int | None) -> str | None:
    captions = opened.select("captions", "stimulus_index", "caption_index", "caption")
    found = opened.rows(
        f"SELECT caption FROM ({captions}) WHERE stimulus_index = ? AND caption_index = ?", [stimulus, caption]
    )
    return str(found[0][0]) if found else None


def sampling_in_words(sampling: str | None) -> str:
    """Return the sampling settings of a response, such as ``temperature 0.7, seed 11``."""
    try:
        found = json.loads(sampling or "{}")
    except ValueError:
        return str(sampling)
    return ", ".join(f"{key} {value}" for key, value in found.items() if value not in (None, {}, []))
