"""Secrets in ``.dvc/config``, which is in every version and pushed. They belong in ``.dvc/config.local``."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.secrets import hide

_NAMES = re.compile(r"(?!ask_).*(password|passphrase|secret|token|_key|connection_string)")
_URL = re.compile(r"://[^/\s]*:[^/\s]*@|[?&;](sig|sas|token|key|password)=", re.IGNORECASE)
_NAME_ONLY = re.compile(r"://[^/\s:@]*@")
_REMOTE = re.compile(r"remote \"(.*)\"")


def secret_keys(root: Path) -> list[tuple[str, str]]:
    """Return the section and name of every setting in ``.dvc/config`` that contains a secret.

    A secret is a value that DVC uses as a password, key or token, or a URL that contains one.

    Raises
    ------
    LakeError
        If the file cannot be read.
    """
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read(root / ".dvc" / "config", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise LakeError(
            ".dvc/config cannot be read",
            found=type(error).__name__,
            todo="correct it: `dvc config --list` shows the error",
        ) from error
    return [
        (section.strip("'"), name)
        for section in config.sections()
        for name, value in config.items(section)
        if value and (_NAMES.fullmatch(name) or _URL.search(value))
    ]


def has_secret(url: str) -> bool:
    """Return whether a URL contains a password, a key or a token."""
    without_name = _NAME_ONLY.sub("://", url)  # a name alone (ssh://ann@host) is not a secret
    return bool(_URL.search(url)) or hide(without_name) != without_name


def refuse_secrets(root: Path) -> None:
    """Raise :class:`LakeError` if ``.dvc/config`` contains secrets; name the settings only."""
    found = secret_keys(root)
    if not found:
        return
    section, name = found[0]
    remote = _REMOTE.fullmatch(section)
    if remote:
        move = f"`dvc remote modify --local {remote[1]} {name} …`"
        clear = "set the URL without it" if name == "url" else f"`dvc remote modify --unset {remote[1]} {name}`"
    else:
        move, clear = f"`dvc config --local {section}.{name} …`", f"`dvc config --unset {section}.{name}`"
    raise LakeError(
        ".dvc/config contains secrets, which every version would then contain",
        found=", ".join(f"[{section}] {name}" for section, name in found),
        todo=f"{clear}, and set it on this machine only: {move}",
    )
