"""Checks of names from manifests, listings, remotes and params.yaml, before a path is made of them.

A lake may be cloned from an untrusted source. So a table is in ``storage/tables/TABLE`` or
``storage/tables/TABLE/PARTITION`` only, an object is named by a hash, a part by a plain file name, and a path that is
written or removed is inside the lake after symbolic links are resolved.
"""

from __future__ import annotations

import re
from pathlib import Path

from affectlake.errors import LakeError

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_OUTPUT = re.compile(rf"{_WORD}(/{_WORD})?")
_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")


def is_output(name: str) -> bool:
    """Return whether `name` is a valid name of an output: ``TABLE`` or ``TABLE/PARTITION``."""
    return _OUTPUT.fullmatch(name) is not None


def output(name: str) -> str:
    """Return `name` if it is a valid name of an output.

    Raises
    ------
    LakeError
        If it is not.
    """
    if not is_output(name):
        raise LakeError(
            f"{name!r} is not the name of an output",
            wanted="TABLE or TABLE/PARTITION, each of letters, digits, '.', '_' and '-', a letter or digit first",
            todo="rename what the name is made from, such as the agent in params.yaml",
        )
    return name


def is_digest(text: object) -> bool:
    """Return whether `text` is a valid name of an object: an MD5, with ``.dir`` appended for a listing."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digest(text: str) -> str:
    """Return `text` if it is a valid name of an object.

    Raises
    ------
    LakeError
        If it is not.
    """
    if not is_digest(text):
        raise LakeError(
            f"{text!r} is not the name of an object",
            wanted="an MD5: 32 digits and letters a to f, followed by .dir for a listing",
            todo="find the version that has it with `affectlake fsck`",
        )
    return text


def is_file_name(text: object) -> bool:
    """Return whether `text` is a plain file name, without a folder."""
    return isinstance(text, str) and text not in ("", ".", "..") and "/" not in text and "\0" not in text


def file_name(text: str) -> str:
    """Return `text` if it is a plain file name.

    Raises
    ------
    LakeError
        If it is not.
    """
    if not is_file_name(text):
        raise LakeError(
            f"{text!r} is not a plain file name; nothing was written",
            wanted="a name without '/'",
            todo="ask whoever published the version that has it",
        )
    return text


def is_step(stage: str, command: object) -> bool:
    """Return whether a stage of ``dvc.yaml`` or ``dvc.lock`` is an affectlake step.

    Its command is then ``affectlake step STAGE …``; every other stage was added by the user.
    """
    words = command.split() if isinstance(command, str) else []
    return words[:2] == ["affectlake", "step"] and words[2:3] != [] and _base(words[2]) == _base(stage)


def _base(stage: str) -> str:
    return stage.partition("@")[0]


def own_path(lake: Path, place: Path) -> Path:
    """Return the path of `place` in the lake, if it is there after symbolic links are resolved.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    place : Path
        A path within it that is about to be written or removed; it need not exist.

    Raises
    ------
    LakeError
        If a symbolic link or ``..`` leads outside.
    """
    found = (lake / place).resolve()
    if found != lake.resolve() / place:
        raise LakeError(
            f"{place} leads out of its folder; nothing was written or removed there",
            found=str(found),
            wanted="a folder inside the lake, not a symbolic link",
            todo=f"replace the link by the files themselves (`ls -ld {place}` and of the folders above show it)",
        )
    return lake / place
