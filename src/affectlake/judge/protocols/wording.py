"""Request bodies: a protocol, filled with three stimuli, for one model and its sampling settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.sampling import Sampling


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
        self._fields: dict[str, Any] = {"model": model}
        self._last = sampling.as_fields() | protocol.fields

    def of_captions(self, captions: Sequence[str], seed: int | None) -> dict[str, Any]:
        """Return the body that asks about three captions.

        Parameters
        ----------
        captions : sequence of str
            The neutralised captions, in the order shown. The built-in protocols write them as in the paper:
            ``[Video_1: caption_1], [Video_2: caption_2], [Video_3: caption_3]``.
        seed : int or None
            Seed of this request.
        """
        return self._body(self.protocol.text_with(captions), seed)

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
        return self._body(self.protocol.parts_with(videos), seed)

    def of_text(self, text: str) -> dict[str, Any]:
        """Return the body that asks `text` instead of a question about three stimuli."""
        return self._body(text, None)

    def _body(self, content: str | list[dict[str, Any]], seed: int | None) -> dict[str, Any]:
        body = self._fields | {"messages": [{"role": "user", "content": content}]} | self._last
        if seed is not None:
            body["seed"] = seed
        return body
