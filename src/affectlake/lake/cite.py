"""The citation block of a version, for a methods section: it identifies the exact data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from affectlake.lake.files import layout
from affectlake.lake.files.git import git_bytes
from affectlake.lake.store.versions import Manifest, Version

SOURCES = {
    "emotion": (
        "Cowen, A. S. & Keltner, D. (2017). Self-report captures 27 distinct categories of emotion bridged by "
        "continuous gradients. PNAS 114, E7900-E7909. Ratings: available from the authors on request; "
        "research use, not republished.",
        "Horikawa, T. MindCaptioning video captions, github.com/horikawa-t/MindCaptioning. Research use, not "
        "republished.",
        "Du, C. et al. (2025). Bridging the behavior-neural gap. The study's design and methods.",
    ),
    "synthetic": ("Synthetic data made by affectlake; it does not describe people.",),
}


def cite(root: Path, version: Version, kind: str) -> str:
    """Return the citation block of `version`.

    Parameters
    ----------
    root : Path
        Root of the lake.
    version : Version
        The version.
    kind : str
        The ``sources.kind`` of its parameters, such as "emotion" or "synthetic"; another kind is reported as unknown.
    """
    digests = Manifest(root, version.commit).digests
    params = git_bytes(root, "cat-file", "blob", f"{version.commit}:./{layout.PARAMS}")
    fingerprint = hashlib.sha256(params).hexdigest()
    lines = [
        f"affectlake data, version {version.name}, commit {version.commit}, {version.created}.",
        f"Made with affectlake {version.code_version}. Parameters: SHA-256 {fingerprint}.",
        "Tables (MD5 of their DVC listings):",
        *(f"  {output}  {digest.removesuffix('.dir')}" for output, digest in sorted(digests.items())),
        "Sources:",
        *(f"  {source}" for source in SOURCES.get(kind) or (_unknown(version, kind),)),
    ]
    return "\n".join(lines)


def _unknown(version: Version, kind: str) -> str:
    what = f"Sources of kind {kind!r}" if kind else "Sources of a kind that is not given in its params.yaml"
    return f"{what}, which is unknown to this affectlake: see `sources` in params.yaml of {version.name}."
