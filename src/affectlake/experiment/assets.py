"""The files of the page: what the package has in static/, templates/ and texts/, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

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


def package_assets(jspsych: Mapping[str, bytes] | None = None) -> Assets:
    """Return the page of the package.

    Parameters
    ----------
    jspsych : mapping of str to bytes, optional
        The files of jsPsych, by name.
    """
    here = files("affectlake.experiment")
    found = {f"jspsych/{name}": asset(name, content) for name, content in (jspsych or {}).items()}
    static, texts, page = here / "static", here / "texts", here / "templates" / "page.html"
    if static.is_dir():
        found |= {f"static/{one.name}": asset(one.name, one.read_bytes()) for one in static.iterdir() if one.is_file()}
    words = {}
    if texts.is_dir():
        for one in texts.iterdir():
            if one.name.endswith(".yaml"):
                words[one.name.removesuffix(".yaml")] = yaml.safe_load(one.read_text(encoding="utf-8"))
    return Assets(page.read_bytes() if page.is_file() else b"<!doctype html><title>Study</title>", found, words)
