"""Serve the experiment that a file describes, and print its address: ``python -m tests.support.people_process X``."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import sys
from pathlib import Path

import numpy as np

from affectlake.experiment.assets import Assets, asset
from affectlake.experiment.offer import Contents, MediaFile, Offer, ServeSettings
from affectlake.experiment.page import page_files, render_page, texts_of
from affectlake.experiment.server import serve

spec = json.loads(Path(sys.argv[1]).read_text())


def media_file(path: Path) -> MediaFile:
    """Describe a file."""
    content = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return MediaFile(hashlib.sha256(content).hexdigest(), path, len(content), kind)


n = len(spec["captions"])
media = tuple(media_file(Path(path)) for path in spec["media"]) or (None,) * n
contents = Contents(spec["kind"], tuple(f"stimulus-{i}" for i in range(n)), tuple(spec["captions"]), media)
trials = np.array(spec["trials"], dtype=np.int32).reshape(-1, 3)
offer = Offer(
    trials,
    np.full(len(trials), spec["wanted"], dtype=np.int16),
    np.zeros(len(trials), dtype=np.int16),
    practice=np.array(spec["practice"], dtype=np.int32).reshape(-1, 3),
)
settings = ServeSettings(agent="people", seed=7, **({"languages": ("en", "de")} | spec["settings"]))
texts = texts_of(settings.languages)
files = {name: asset(name, path.read_bytes()) for name, path in page_files().items()}
assets = Assets(render_page(texts, settings.panel or "").encode(), files, texts)
serve(
    Path(spec["store"]),
    offer,
    contents,
    settings,
    assets,
    b"k" * 32,
    ready=lambda address: print(address, flush=True),
    port=spec["port"],
)
