"""``CITATION.cff`` at the root of a lake: whom to cite, for GitHub and for programs that read the file.

It is written if ``about.creators`` of ``params.yaml`` states who made the data. A generated block is replaced with each
version that a run publishes. Text outside it is kept, and its keys take the place of generated ones; a file without the
block, or with an edited one, belongs to the user and is left alone. The block has no number of a version, for the same
reason as the README (:mod:`affectlake.pipelines.outputs.lake_readme`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affectlake.lake.files import layout
from affectlake.pipelines.outputs.citations import cff
from affectlake.pipelines.outputs.lake_readme import own_text
from affectlake.pipelines.params.about import described

_BEGIN = "# affectlake: generated from `about` in params.yaml; write above or below this block"
_END = "# affectlake: end of the generated block"
_BLOCK = re.compile(rf"^{re.escape(_BEGIN)} \((\w+)\)\n(.*?)^{re.escape(_END)}\n", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"^([\w-]+):", re.MULTILINE)


def lake_citation(lake: Path, raw: Mapping[str, Any]) -> dict[Path, bytes | None]:
    """Return the citation file of a lake by its path: its new content, or None if it is to be removed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    raw : mapping
        Parsed content of its ``params.yaml``.

    Returns
    -------
    dict of Path to bytes or None
        Empty if the file must not be changed, or there is nothing to cite.
    """
    text = own_text(lake / layout.CITATION)
    if text is None:
        return {}
    blocks = list(_BLOCK.finditer(text))
    if text.strip() and (len(blocks) != 1 or blocks[0][1] != _digest(blocks[0][2])):
        return {}
    before, after = (text[: blocks[0].start()], text[blocks[0].end() :]) if blocks else ("", "")
    content = f"{before}{_block(raw, {*_KEY.findall(before), *_KEY.findall(after)})}{after}"
    if content.strip():
        return {layout.CITATION: content.encode()}
    return {layout.CITATION: None} if blocks else {}


def _block(raw: Mapping[str, Any], own_keys: set[str]) -> str:
    about = described(raw)
    if not about.creators:
        return ""
    entry = cff(about, own_keys)
    return f"{_BEGIN} ({_digest(entry)})\n{entry}{_END}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
