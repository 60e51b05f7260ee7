"""The settings of DVC remotes: the files they are in, and what a clone of the lake sees of them.

Later files override earlier ones: the system's, the user's, ``.dvc/config``, which is in every version, and
``.dvc/config.local``, which stays on this machine. DVC itself is not imported here: that takes a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.git import git
from affectlake.lake.store.dvc_settings import read_settings, setting_files
from affectlake.lake.store.git_objects import content_at

Place = Literal["system", "user", "lake", "machine"]
"""Where a setting is: the system's file, the user's, ``.dvc/config`` or ``.dvc/config.local``."""

CONFIG = Path(".dvc/config")
LOCAL = Path(".dvc/config.local")

WHERE = (
    "url", "endpointurl", "region", "port", "account_name", "projectname", "oss_endpoint", "use_ssl", "use_https",
    "auth", "method", "custom_auth_header", "allow_anonymous_login", "version_aware", "worktree",
)  # fmt: skip
"""Settings that describe where and how the files are kept. All others, such as keys, are each user's own."""

_PATHS = (
    "url", "keyfile", "credentialpath", "configpath", "cert_path", "key_path", "gdrive_user_credentials_file",
    "gdrive_service_account_json_file_path",
)  # fmt: skip
_SECTION = re.compile(r"\s*remote \"(.*)\"\s*")
_URL = re.compile(r"\w+://")


class Settings(NamedTuple):
    """The default remote (empty if there is none), and the settings of each remote by its name."""

    default: str
    remotes: dict[str, dict[str, str]]


NO_SETTINGS = Settings("", {})


def settings_in(root: Path) -> dict[Place, Settings]:
    """Return the settings in each file, as they are written there."""
    places: tuple[Place, ...] = ("system", "user", "lake", "machine")
    return {place: _parsed(read_settings(path)) for place, path in zip(places, setting_files(root), strict=True)}


def committed_settings(root: Path, commit: str) -> Settings:
    """Return the settings in the ``.dvc/config`` of a commit."""
    text = content_at(root, commit, CONFIG)
    return NO_SETTINGS if text is None else _parsed(read_settings(root / CONFIG, text))


def settings_here(root: Path, commit: str = "") -> Settings:
    """Return the settings that hold in this folder, with absolute paths.

    Parameters
    ----------
    root : Path
        Root of the lake.
    commit : str
        A commit whose ``.dvc/config`` overrides the folder's; none if empty.
    """
    found, folders = settings_in(root), [path.parent for path in setting_files(root)]
    layers = [_absolute(one, folder) for one, folder in zip(found.values(), folders, strict=True)]
    if commit:
        layers.insert(3, _absolute(committed_settings(root, commit), root / ".dvc"))
    return _merged(layers)


def settings_of_clones(root: Path, commit: str) -> Settings:
    """Return the settings in a clone of `commit`, with the credentials of this machine, and with absolute paths.

    Remotes, URLs and what else is in `WHERE` are those of the commit. Other settings, which every user has to set, are
    borrowed from this machine, unless the same file sets another URL: they may not be meant for the commit's.
    """
    there = _absolute(committed_settings(root, commit), root / ".dvc")
    found, borrowed = settings_in(root), []
    for place, path in zip(found, setting_files(root), strict=True):
        if place != "lake":
            own = {name: _own(one) for name, one in found[place].remotes.items() if name in there.remotes}
            borrowed.append(_absolute(Settings("", own), path.parent))
    return Settings(there.default, _merged([*borrowed, there]).remotes)


def leads_into_clone(root: Path, url: str) -> bool:
    """Return whether a URL in ``.dvc/config`` is a relative path within the lake's repository: every clone has its own.

    A relative path that leads out of the repository is the same folder for a clone beside this one.
    """
    if _URL.match(url) or Path(os.path.expanduser(url)).is_absolute():  # noqa: PTH111 (as DVC)
        return False
    top = Path(git(root, "rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    return (root / ".dvc" / url).resolve().is_relative_to(top)


def is_committed(root: Path, commit: str) -> bool:
    """Return whether ``.dvc/config`` is as in `commit`."""
    path = root / CONFIG
    return (path.read_bytes() if path.exists() else None) == content_at(root, commit, CONFIG)


def change_remote(path: Path, name: str, settings: Mapping[str, str | None], default: str | None = None) -> bool:
    """Change a remote in a file, which keeps its other lines; return whether there was something to change.

    Parameters
    ----------
    path : Path
        ``.dvc/config`` or ``.dvc/config.local``; it is made if necessary.
    name : str
        The remote.
    settings : mapping of str to str or None
        New values; None removes a setting. A remote without settings is removed.
    default : str or None
        The new default remote; empty removes it, None leaves it.
    """
    from configobj import ConfigObj  # comes with DVC

    before = path.read_text(encoding="utf-8") if path.exists() else ""
    config: Any = ConfigObj(before.splitlines())
    section = next((key for key in config.sections if _name(key) == name), f'remote "{name}"')
    entry = config.setdefault(section, {})
    for key, value in settings.items():
        known = next((one for one in entry if one.lower() == key), key)
        if value is None:
            entry.pop(known, None)
        else:
            entry[known] = value
    if not entry:
        del config[section]
    if default:
        config.setdefault("core", {})["remote"] = default
    elif default == "":
        config.get("core", {}).pop("remote", None)
    if config.dict() == ConfigObj(before.splitlines()).dict():
        return False
    config.indent_type = config.indent_type or "    "
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600 if path.name == LOCAL.name else 0o644
    write_whole(path, "".join(f"{line}\n" for line in config.write()).encode(), mode)
    return True


def _parsed(sections: Mapping[str, Mapping[str, Any]]) -> Settings:
    remotes = {
        name: {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in section.items()}
        for title, section in sections.items()
        if (name := _name(title))
    }
    return Settings(str(sections.get("core", {}).get("remote", "")).lower(), remotes)


def _name(title: str) -> str:
    found = _SECTION.fullmatch(title)
    return found[1].lower() if found else ""


def _own(remote: Mapping[str, str]) -> dict[str, str]:
    return {} if "url" in remote else {key: value for key, value in remote.items() if key not in WHERE}


def _merged(layers: Iterable[Settings]) -> Settings:
    default = ""
    remotes: dict[str, dict[str, str]] = {}
    for one in layers:
        default = one.default or default
        for name, settings in one.remotes.items():
            remotes[name] = remotes.get(name, {}) | settings
    return Settings(default, remotes)


def _absolute(settings: Settings, folder: Path) -> Settings:
    """Return settings whose paths do not depend on the `folder` of the file that they are in."""
    remotes = {
        name: {key: _path(value, folder) if key in _PATHS else value for key, value in one.items()}
        for name, one in settings.remotes.items()
    }
    return settings._replace(remotes=remotes)


def _path(value: str, folder: Path) -> str:
    if _URL.match(value):
        return value
    return os.path.abspath(folder / os.path.expanduser(value))  # noqa: PTH100, PTH111 (as DVC)
