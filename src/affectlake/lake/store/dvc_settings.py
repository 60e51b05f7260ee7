"""Read DVC's settings and find its cache as DVC does, without the second that importing DVC takes.

Later files override earlier ones: the system's, the user's, ``.dvc/config`` and ``.dvc/config.local``.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from affectlake.errors import LakeError


def cache_folder(root: Path) -> Path:
    """Return the lake's DVC cache folder.

    Raises
    ------
    LakeError
        If one of DVC's configuration files cannot be read.
    """
    files = setting_files(root)
    return _cache_folder(root, files, tuple(map(_stamp, files)))


def is_shared(root: Path) -> bool:
    """Return whether the cache is outside the lake's ``.dvc``, so that other repositories may use it too."""
    return not cache_folder(root).is_relative_to((root / ".dvc").resolve())


_VARIABLES = ("DVC_SYSTEM_CONFIG_DIR", "DVC_GLOBAL_CONFIG_DIR", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "HOME")


@lru_cache(maxsize=64)
def _files(root: Path, system: str | None, user: str | None, *_: str | None) -> tuple[Path, ...]:
    own = root / ".dvc"
    system_folder = Path(system or _usual("site_config_dir"))
    user_folder = Path(user or _usual("user_config_dir"))
    return system_folder / "config", user_folder / "config", own / "config", own / "config.local"


def _usual(kind: str) -> str:
    """Return a folder of platformdirs, which DVC uses; on Linux without the time that its import takes."""
    if sys.platform != "linux":
        import platformdirs

        return str(getattr(platformdirs, kind)("dvc", "iterative"))
    if kind == "site_config_dir":
        named, usual = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep), "/etc/xdg"
    else:
        named, usual = [os.environ.get("XDG_CONFIG_HOME", "")], str(Path.home() / ".config")
    return f"{next((one for one in named if one.startswith('/')), usual)}/dvc"


@lru_cache(maxsize=64)
def _cache_folder(root: Path, files: tuple[Path, ...], _: tuple[tuple[int, ...], ...]) -> Path:
    """Read the settings once for each state of their files: this is called for thousands of objects."""
    found = root / ".dvc" / "cache"
    for path in files:
        named = _cache_dir(path)
        if named:
            found = path.parent / os.path.expanduser(named)  # noqa: PTH111 (as DVC: ~ without a known user is kept)
    return found.resolve()


def _cache_dir(path: Path) -> str:
    """Return the cache folder that one configuration file sets; an empty string if it does not set one."""
    text = _text(path)
    if "dir" not in text.lower():
        return ""  # most files do not set it, and importing the parser is slow
    named = read_settings(path, text.encode()).get("cache", {}).get("dir", "")
    if not isinstance(named, str):
        raise LakeError(f"cache.dir in {path} is not a path", found=str(named), todo="put quotes around it")
    return named


def setting_files(root: Path) -> tuple[Path, ...]:
    """Return the files of DVC's settings: the system's, the user's, ``.dvc/config`` and ``.dvc/config.local``."""
    return _files(root, *map(os.environ.get, _VARIABLES))


def read_settings(path: Path, content: bytes | None = None) -> dict[str, dict[str, Any]]:
    """Return the sections of one of DVC's configuration files, with names in lower case; empty if it does not exist.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes, optional
        Its content, where that is not the file's, such as in a commit.

    Raises
    ------
    LakeError
        If it cannot be read.
    """
    try:
        text = _text(path) if content is None else content.decode()
    except UnicodeError as error:
        raise _unreadable(path, error) from error
    if not text.strip():
        return {}
    from configobj import ConfigObj, ConfigObjError  # comes with DVC

    try:
        sections = ConfigObj(text.splitlines()).dict()
    except ConfigObjError as error:
        raise _unreadable(path, error) from error
    return {
        title.lower(): {key.lower(): value for key, value in section.items()}
        for title, section in sections.items()
        if isinstance(section, dict)
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> LakeError:
    return LakeError(f"the DVC settings in {path} cannot be read", found=str(error))


def _stamp(path: Path) -> tuple[int, ...]:
    """Return a file's inode, size and time in nanoseconds, which change when it is written; empty if missing."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
