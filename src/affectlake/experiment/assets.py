"""The files of the page, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """A file of the page and its MIME type."""

    content: bytes
    type: str


@dataclass(frozen=True)
class Assets:
    """The page.

    Attributes
    ----------
    page : bytes
        The HTML.
    files : mapping of str to Asset
        Its files, by their address without the first slash, such as ``static/page.js``.
    texts : mapping of str to mapping
        The wording, by language.
    """

    page: bytes
    files: Mapping[str, Asset] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def asset(name: str, content: bytes) -> Asset:
    """Return a file with the MIME type of its name; unknown ones are downloads."""
    return Asset(content, _TYPES.get(name.rpartition(".")[2], "application/octet-stream"))
