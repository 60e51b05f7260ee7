"""Names that come from elsewhere (manifests, listings, remotes, params.yaml), checked before a path is made of one.

A lake may be cloned from anybody. So a table lies in ``storage/tables/TABLE`` or ``storage/tables/TABLE/PARTITION`` and
nowhere else, an object is named by a hash, a part by a plain file name, and what is written or removed lies where its
path says, symbolic links followed.
"""

from __future__ import annotations

import re
from pathlib import Path

from affectlake.errors import LakeError

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_OUTPUT = re.compile(rf"{_WORD}(/{_WORD})?")
_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")


def is_output(name: str) -> bool:
    """Return whether `name` may be an output's: ``TABLE`` or ``TABLE/PARTITION``."""
    return _OUTPUT.fullmatch(name) is not None


def output(name: str) -> str:
    """Return `name`, seen to be an output's.

    Raises
    ------
    LakeError
        If it is not.
    """
    if not is_output(name):
        raise LakeError(
            f"{name!r} is not the name of an output",
            wanted="TABLE or TABLE/PARTITION, each of letters, digits, '.', '_' and '-', a letter or digit first",
            todo="rename what it is made of, such as the agent in params.yaml",
        )
    return name


def is_digest(text: object) -> bool:
    """Return whether `text` is an object's name: an MD5, of a listing ending in ``.dir``."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digest(text: str) -> str:
    """Return `text`, seen to be an object's name.

    Raises
    ------
    LakeError
        If it is not.
    """
    if not is_digest(text):
        raise LakeError(
            f"{text!r} is not the name of an object",
            wanted="an MD5: 32 digits and letters a to f, and .dir after that of a listing",
            todo="`affectlake fsck` says which version has it",
        )
    return text


def is_file_name(text: object) -> bool:
    """Return whether `text` is a plain file name: it leads to no other folder."""
    return isinstance(text, str) and text not in ("", ".", "..") and "/" not in text and "\0" not in text


def file_name(text: str) -> str:
    """Return `text`, seen to be a plain file name.

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
    """Return whether a stage of ``dvc.yaml`` or ``dvc.lock`` is one of affectlake's own.

    Told by its command, ``affectlake step STAGE …``; every other stage is the user's.
    """
    words = command.split() if isinstance(command, str) else []
    return words[:2] == ["affectlake", "step"] and words[2:3] != [] and _base(words[2]) == _base(stage)


def _base(stage: str) -> str:
    return stage.partition("@")[0]


def own_path(lake: Path, place: Path) -> Path:
    """Return the path of `place` in the lake, seen to lie there with symbolic links followed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    place : Path
        A path within it that is about to be written or removed; it need not exist.

    Raises
    ------
    LakeError
        If a symbolic link or ``..`` leads elsewhere.
    """
    found = (lake / place).resolve()
    if found != lake.resolve() / place:
        raise LakeError(
            f"{place} leads out of its folder; nothing was written or removed there",
            found=str(found),
            wanted="a folder of the lake's own, not a symbolic link",
            todo=f"put the files themselves where the link is (`ls -ld {place}` and the folders above it show it)",
        )
    return lake / place
