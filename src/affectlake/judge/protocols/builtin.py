"""The built-in protocols: the files in ``builtin_files``, in the form of a lake's own protocol files.

The texts are those of Du et al. 2025, 'Collecting behavioral responses from MLLMs' and '… from LLMs', and of
Supplementary Fig. 1, as far as they are printed; reconstructed parts are marked in comments. ``/n`` in the paper is a
line break here. Quotation marks around a prompt in the paper are not part of it. A changed text needs a new version.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from affectlake.errors import UsageError, nearest
from affectlake.judge.protocols.protocol import BuiltInProtocol, Modality
from affectlake.validation import check

FREE_FAMILIES = ("describe-then-choose", "naive-least-similar", "naive-describe", "naive-precautions")
"""Names of protocols whose answers are texts of any length."""

FAMILIES = (*FREE_FAMILIES, "forced-choice", "question-first")
"""Names of protocols in ``params.yaml``; each has a file for captions and one for videos."""

KINDS: dict[Modality, str] = {"captions": "caption", "videos": "video"}
"""The second part of a built-in protocol's name, by modality."""

BUILT_IN = tuple(f"{family}/{kind}" for family in FAMILIES for kind in KINDS.values())
"""Names of the built-in protocols."""


@cache
def built_in(name: str) -> BuiltInProtocol:
    """Return the built-in protocol called `name`, such as ``describe-then-choose/caption``.

    Raises
    ------
    UsageError
        If there is no such protocol; the message suggests the most similar name.
    """
    if name not in BUILT_IN:
        raise UsageError(f"there is no protocol {name!r}", allowed=", ".join(BUILT_IN), todo=nearest(name, BUILT_IN))
    content = yaml.load(text_of(name), yaml.CSafeLoader)
    found: BuiltInProtocol = check(BuiltInProtocol, content, name=name)
    return found.named(name)


def text_of(name: str) -> str:
    """Return the file of a built-in protocol."""
    return files("affectlake.judge.protocols").joinpath("builtin_files", f"{name}.yaml").read_text(encoding="utf-8")
