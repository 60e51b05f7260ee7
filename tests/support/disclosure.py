"""All text that a file gives away, however it is packed, and a study whose captions, ratings and pictures are known."""

from __future__ import annotations

import re
import shutil
import string
from base64 import b64decode
from collections.abc import Iterator
from html import unescape
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, is_zipfile
from zlib import decompress, error

import numpy as np
import polars as pl
import yaml
from PIL import Image

from tests.support.builds import built_once, copy_of
from tests.support.demo_lakes import affectlake

N = 40
RATINGS = ("joy", "fear", "anger", "calm", "valence")
RUN = 5
"""A run of this many words of a caption is a quotation of it."""

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


def captions() -> list[str]:
    """Return the caption of each stimulus: words that occur in no other text, in an order that no other caption has."""
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list(string.ascii_lowercase), 9)) for _ in range(60)]
    return [" ".join(["someone", *rng.choice(words, 10, replace=False)]) for _ in range(N)]


def scores() -> pl.DataFrame:
    """Return the ratings: seven digits, which no other number on a page shares."""
    rng = np.random.default_rng(8)
    columns = {name: (rng.integers(1_000_000, 9_999_999, N) / 1e7).tolist() for name in RATINGS}
    return pl.DataFrame({"item": [f"clip{at:03d}" for at in range(N)], **columns})


def runs_of(text: str) -> Iterator[str]:
    """Yield every run of `RUN` words of a text."""
    words = text.split()
    for at in range(len(words) - RUN + 1):
        yield " ".join(words[at : at + RUN])


def planted_study() -> Path:
    """Return a lake with v1 of a study of the planted captions, ratings and pictures, all of them shareable."""

    def make(lake: Path) -> None:
        files = lake.with_name("files")
        (files / "media").mkdir(parents=True)
        scores().write_csv(files / "ratings.csv")
        rows = {"item": [f"clip{at:03d}" for at in range(N)], "caption": captions()}
        pl.DataFrame(rows).write_csv(files / "captions.csv")
        rng = np.random.default_rng(9)
        for at in range(N):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(files / f"media/clip{at:03d}.png")
        affectlake("init", lake, "--from", files)
        path = lake / "params.yaml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert settings["shareable"] is True
        settings["sources"]["ratings"][0]["are_categories"] = True
        settings["geometry"] |= {"permutations": 20, "resamples": 20, "min_category_size": 2}
        settings["spose"] |= {"seeds": [0], "dimensions": 6}
        settings["spose"]["few"] |= {"max_epochs": 40}
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        affectlake("run", "--lake", lake)

    return built_once("planted", make)


def planted_copy(folder: Path) -> Path:
    """Return a copy of :func:`planted_study` in a folder, with its files beside it."""
    lake = planted_study()
    shutil.copytree(lake.with_name("files"), folder / "files")
    return copy_of(lake, folder / "lake")


def state(lake: Path, shareable: object) -> None:
    """Set ``shareable`` in the working ``params.yaml``; None: take the key away."""
    path = lake / "params.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings.pop("shareable", None)
    if shareable is not None:
        settings["shareable"] = shareable
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def disclosed(path: Path) -> str:
    """Return all text in a file or folder: unpacked, decoded and unescaped, with single spaces."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return re.sub(r"\s+", " ", " ".join(text for file in files for text in _texts(file.read_bytes())))


def _texts(content: bytes, depth: int = 0) -> Iterator[str]:
    if content.startswith(b"PAR1"):
        frame = pl.read_parquet(BytesIO(content))
        for name in frame.columns:
            yield name + " " + " ".join(map(str, frame[name].to_list()))
            if frame.schema[name] == pl.Binary:
                yield from (text for one in frame[name].to_list() for text in _texts(one, depth + 1))
        return
    if is_zipfile(BytesIO(content)):
        with ZipFile(BytesIO(content)) as packed:
            for member in packed.namelist():
                yield member
                yield from _texts(packed.read(member), depth + 1)
        return
    yield from _readings(content.decode("utf-8", errors="ignore"))
    if depth < 3:
        for found in _BASE64.finditer(content):
            packed_bytes = b64decode(found[0] + b"=" * (-len(found[0]) % 4))
            yield from _texts(packed_bytes, depth + 1)
            for window in (15, -15, 31):
                try:
                    yield from _texts(decompress(packed_bytes, window), depth + 1)
                except error:
                    continue


def _readings(text: str) -> Iterator[str]:
    yield text
    yield unescape(text)
    yield _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
