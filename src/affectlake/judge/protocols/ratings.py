"""Questions about one clip: `perceive-then-rate` and `describe-then-name`.

The texts of `perceive-then-rate/1` are the two paragraphs of Extended Data Fig. 17, verbatim, with the labels at their
place. The figure does not show the place of the video; it is shown before the text here. `describe-then-name/1` is not
in the paper: no label is named beforehand, so that a question about fear does not suggest fear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

ClipProtocol = Literal["perceive-then-rate/1", "describe-then-name/1"]
"""Name and version of a protocol about one clip; a version is raised whenever a text changes."""

_DESCRIBE = (
    "Now we need to perform a role-playing task. Your role is an expert in analyzing the emotions conveyed in videos. "
    "Firstly, please describe the content and your evoked emotional response of the video."
)
_RATE = (
    'Then, report whether you can perceive the emotion of "{labels}" from this video. If so, rate its intensity on a '
    "scale from 1 to 10, with a higher score indicating a greater degree of intensity. Otherwise, simply respond with "
    '"No." Explain the reasons for this result.'
)
_NAME = (
    "Then, tell me which one of the following labels fits the emotion of this video best. Explain the reasons, and end "
    'with a line of the form "Label: NUMBER".\n\n{labels}'
)


def perceive_then_rate(labels: str) -> str:
    """Return the text that asks for the intensity of a dimension.

    Parameters
    ----------
    labels : str
        Labels of the dimension, joined as in the figure: ``Fear, safety-low, control-low``.
    """
    return f"{_DESCRIBE}\n\n{_RATE.replace('{labels}', labels)}"


def describe_then_name(options: Sequence[str]) -> str:
    """Return the text that asks which dimension fits.

    Parameters
    ----------
    options : sequence of str
        Labels of each dimension, in the order in which they are listed and numbered from 1.
    """
    listed = "\n".join(f"{number}. {option}" for number, option in enumerate(options, start=1))
    return f"{_DESCRIBE}\n\n{_NAME.replace('{labels}', listed)}"


def clip_message(name: str, uri: str, text: str) -> list[dict[str, Any]]:
    """Return the parts of the message that shows one clip and asks `text`.

    Parameters
    ----------
    name : str
        Stable name of the clip, by which servers cache it: a hash, so that it does not tell an edit from its original.
    uri : str
        Data URI of its frames, ``data:video/jpeg;base64,FRAME,FRAME,…``.
    text : str
        The question.
    """
    return [
        {"type": "video_url", "video_url": {"url": uri}, "uuid": name},
        {"type": "text", "text": text},
    ]
