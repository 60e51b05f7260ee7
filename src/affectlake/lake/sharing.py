"""Add, set, list and remove the DVC remotes through which a lake is shared.

What everybody needs (URL, endpoint, region, port, the default) is written to ``.dvc/config``, which is committed. What
is each user's own (SSH user and key, profile) is written to ``.dvc/config.local``, which is not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from affectlake.errors import UsageError, nearest
from affectlake.lake.files.git import branch_of, git, git_or_none
from affectlake.lake.repository import commit_config
from affectlake.lake.store.dvc_secrets import has_secret, refuse_secrets
from affectlake.lake.store.merges import refuse_merging
from affectlake.lake.store.remote_failures import not_installed, scheme_of
from affectlake.lake.store.remote_settings import (
    CONFIG,
    LOCAL,
    NO_SETTINGS,
    WHERE,
    Place,
    change_remote,
    committed_settings,
    is_committed,
    settings_here,
    settings_in,
)

SCHEMES = ("s3", "ssh", "gs", "azure", "gdrive", "oss", "hdfs", "webhdfs", "http", "https", "webdav", "webdavs")
"""Kinds of remotes besides folders."""

TAKES = {
    "endpointurl": ("s3", "gs"),
    "region": ("s3",),
    "port": ("ssh",),
    "profile": ("s3", "gdrive"),
    "keyfile": ("ssh",),
    "user": ("ssh", "http", "https", "webdav", "webdavs", "hdfs", "webhdfs"),
    "ask_password": ("ssh", "http", "https", "webdav", "webdavs"),
}
"""The settings that commands have options for, and the kinds of remotes that have them."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_LIKE_SCP = re.compile(r"(?P<host>[\w.-]+@[\w.-]+|[\w-]+(?:\.[\w-]+)+|localhost):(?P<path>.*)")
_NONE: Mapping[str, str] = MappingProxyType({})


class Added(NamedTuple):
    """What adding a remote did.

    Attributes
    ----------
    name, url : str
        The remote, and the URL that was written.
    committed : bool
        Whether a commit was made.
    waits : bool
        Whether the first version will have the settings, as there is no commit yet.
    own : list of str
        The settings that were written for this machine only.
    """

    name: str
    url: str
    committed: bool
    waits: bool
    own: list[str]


class Listed(NamedTuple):
    """A remote as it is here and in a clone.

    Attributes
    ----------
    name, url : str
        The remote, and its URL here; empty if it has none.
    is_default, is_committed : bool
        Whether it is the default here, and whether a clone has it with the same URL.
    place : {"system", "user", "lake", "machine"}
        The file that its URL is from.
    settings : dict of str to str
        Settings of where it is, besides its URL.
    own : list of str
        Names of the settings that are each user's own.
    """

    name: str
    url: str
    is_default: bool
    is_committed: bool
    place: Place
    settings: dict[str, str]
    own: list[str]


def add_remote(root: Path, name: str, url: str, options: Mapping[str, str] = _NONE, *, default: bool = False) -> Added:
    """Add a DVC remote to the lake, and commit it; the caller holds the writer lock.

    Parameters
    ----------
    root : Path
        Root of the lake.
    name : str
        Its name: letters, digits, ``.``, ``_`` and ``-``; case does not count.
    url : str
        A URL of one of `SCHEMES`, or a folder, relative to the current one. The name of an SSH user in it is kept on
        this machine.
    options : mapping of str to str
        Settings of `TAKES`.
    default : bool
        Whether it becomes the default remote.

    Raises
    ------
    UsageError
        If the name, the URL or an option is not valid, or the remote has another URL.
    LakeError
        If a package is missing for this kind of remote, or nothing can be committed; nothing is changed then.
    """
    name = _legal_name(name)
    url, user = _legal_url(root, name, url)
    wanted = ({"user": user} if user else {}) | _legal_options(url, options)
    _refuse_uninstalled(name, url)
    branch_of(root)
    refuse_merging(root)
    refuse_secrets(root)
    shared = {"url": url} | {key: value for key, value in wanted.items() if key in WHERE}
    own = {key: value for key, value in wanted.items() if key not in WHERE}
    shared["url"] = _refuse_other(root, name, shared)
    change_remote(root / CONFIG, name, shared, name if default else None)
    # what is for all would be overridden on this machine
    change_remote(root / LOCAL, name, own | dict.fromkeys(shared), "" if default else None)
    committed = commit_config(root, f"Add the DVC remote {name}")
    waits = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") is None
    return Added(name, url, committed, waits, sorted(own))


def set_own(root: Path, name: str, options: Mapping[str, str]) -> list[str]:
    """Set the user's account, key or profile for a remote, on this machine only; return the names of the settings.

    Raises
    ------
    UsageError
        If there is no such remote, or it does not have one of the settings.
    """
    name, known = name.lower(), settings_here(root).remotes
    announced = f"refs/remotes/origin/{branch_of(root).removeprefix('refs/heads/')}"  # as of the last pull or fetch
    if git_or_none(root, "rev-parse", "--verify", "--quiet", announced):
        known = committed_settings(root, announced).remotes | known
    _refuse_unknown(name, known)
    own = _legal_options(known[name].get("url", ""), options)
    if not own:
        raise UsageError("there is nothing to set", allowed="--user, --keyfile, --ask-password, --profile")
    change_remote(root / LOCAL, name, own)
    return sorted(own)


def remove_remote(root: Path, name: str) -> bool:
    """Remove a remote from the lake's settings and commit that; its files stay. Return whether a commit was made.

    Raises
    ------
    UsageError
        If there is no such remote in the lake's settings.
    """
    name = name.lower()
    found = settings_in(root)
    _refuse_unknown(name, [*found["lake"].remotes, *found["machine"].remotes])
    branch_of(root)
    refuse_merging(root)
    for path, place in ((CONFIG, found["lake"]), (LOCAL, found["machine"])):
        gone = dict.fromkeys(place.remotes.get(name, {}))
        change_remote(root / path, name, gone, "" if place.default == name else None)
    return commit_config(root, f"Remove the DVC remote {name}")


def list_remotes(root: Path) -> list[Listed]:
    """Return the remotes that this folder knows, by name."""
    here, places = settings_here(root), settings_in(root)
    head = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD")
    there = committed_settings(root, head) if head else NO_SETTINGS
    found = []
    for name, settings in sorted(here.remotes.items()):
        urls = {place: one.remotes[name]["url"] for place, one in places.items() if "url" in one.remotes.get(name, {})}
        place = list(urls)[-1] if urls else "machine"
        committed = there.remotes.get(name, {}).get("url")
        found.append(
            Listed(
                name,
                settings.get("url", ""),
                name == here.default,
                committed is not None and committed == urls.get(place),
                place,
                {key: value for key, value in settings.items() if key in WHERE and key != "url"},
                sorted(key for key in settings if key not in WHERE),
            )
        )
    return found


def _legal_name(name: str) -> str:
    name = name.lower()  # DVC reads names in lower case
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a remote",
            wanted="letters, digits, ., _ and -, beginning with one of the first two",
        )
    return name


def _legal_url(root: Path, name: str, url: str) -> tuple[str, str]:
    """Return a URL as it is committed, and the name of the SSH user that was in it."""
    if has_secret(url):
        raise UsageError(
            "the URL contains a password or a key, which every version would then contain",
            found=url,
            todo=f"leave it out: `affectlake remote add {name} URL`, then set it on this machine only:"
            f" `dvc remote modify --local {name} …` (or --ask-password, to be asked for it each time)",
        )
    url = url.removeprefix("file://") if url.startswith("file:///") else url
    if "://" not in url:
        return _legal_folder(root, url), ""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{url} is not a valid URL", found=str(error)) from error
    if parts.scheme not in SCHEMES:
        todo = nearest(parts.scheme, SCHEMES)
        raise UsageError(
            f"there is no kind of remote {parts.scheme}://", allowed=f"a folder, {', '.join(SCHEMES)}", todo=todo
        )
    if not parts.netloc:
        raise UsageError(f"{url} has no host or bucket", wanted=f"{parts.scheme}://HOST_OR_BUCKET/PATH")
    if parts.scheme == "ssh" and not parts.path.strip("/"):
        raise UsageError(f"{url} has no folder", wanted="ssh://HOST/FOLDER, with the path from the root of the server")
    if parts.scheme == "ssh" and parts.username:
        return url.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1), parts.username
    return url.rstrip("/") if parts.path.strip("/") else url, ""


def _legal_folder(root: Path, url: str) -> str:
    """Return the absolute path of a folder outside the lake's repository."""
    scp = _LIKE_SCP.fullmatch(url)
    if scp and not Path(url).exists():
        path = scp["path"] if scp["path"].startswith("/") else f"/HOME/{scp['path']}"
        user, _, host = scp["host"].rpartition("@")
        todo = f"write ssh://{host}{path}{f' and --user {user}' if user else ''}"
        raise UsageError(f"{url} is not a URL", wanted="ssh://HOST/FOLDER", todo=todo)
    if not url.strip():
        raise UsageError("the URL is empty", wanted=f"a folder, or a URL of {', '.join(SCHEMES)}")
    folder = Path(os.path.abspath(Path(url).expanduser()))  # noqa: PTH100 (symbolic links stay as they are named)
    top = Path(git(root, "rev-parse", "--show-toplevel").rstrip("\n"))
    if folder.resolve().is_relative_to(top.resolve()):
        raise UsageError(
            f"{folder} is in the lake's own folder, which a clone elsewhere does not have",
            wanted="a folder outside it, such as one of a shared disk, or a URL",
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", wanted="a folder, or a URL")
    return str(folder)


def _legal_options(url: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return the given options, checked against the kind of remote, with absolute paths."""
    scheme, found = scheme_of(url), {key: value for key, value in options.items() if value}
    for key, value in found.items():
        option = f"--{'endpoint-url' if key == 'endpointurl' else key.replace('_', '-')}"
        if url and scheme not in TAKES[key]:
            kinds = ", ".join(f"{kind}://" for kind in TAKES[key])
            raise UsageError(f"a remote at {url} has no {option}", allowed=f"{option} with {kinds}")
        if has_secret(value):
            raise UsageError(f"{option} contains a password or a key, which every version would then contain")
        if key == "endpointurl" and not re.match(r"https?://[^/]", value):
            raise UsageError(f"{value} is not a URL", wanted=f"{option} https://HOST")
    if "keyfile" in found:
        path = Path(os.path.abspath(Path(found["keyfile"]).expanduser()))  # noqa: PTH100 (as named)
        if not path.is_file():
            raise UsageError(f"there is no file {path}", wanted="--keyfile: an SSH private key")
        found["keyfile"] = str(path)
    return found


def _refuse_uninstalled(name: str, url: str) -> None:
    """Raise :class:`LakeError` if a package that DVC needs for this URL is not installed."""
    from dvc.fs import known_implementations

    entry = known_implementations.get(scheme_of(url))
    if not entry:
        return
    module, _, kind = entry["class"].rpartition(".")
    try:
        missing = getattr(import_module(module), kind).get_missing_deps()
    except ImportError as error:
        raise not_installed(name, url) from error
    if missing:
        raise not_installed(name, url)


def _refuse_other(root: Path, name: str, shared: Mapping[str, str]) -> str:
    """Raise :class:`UsageError` if the remote has another place already; return its URL as the lake has it."""
    kept = shared["url"]
    for path, place in ((CONFIG, settings_in(root)["lake"]), (LOCAL, settings_in(root)["machine"])):
        known = place.remotes.get(name, {})
        for key, value in shared.items():
            if key == "url" and key in known and _place(root, known[key]) == _place(root, value):
                kept = known[key] if path == CONFIG else kept
            elif key in known and known[key].rstrip("/") != value.rstrip("/"):
                raise UsageError(
                    f"the remote {name} has another {'URL' if key == 'url' else key} in {path}",
                    wanted=value,
                    found=known[key],
                    todo=f"choose another name, or remove it first: `affectlake remote remove {name}`",
                )
    return kept


def _place(root: Path, url: str) -> str:
    """Return a URL without the name of a user, or a path that does not depend on the folder of ``.dvc/config``."""
    if "://" in url:
        return re.sub(r"^(\w+://)[^/@]*@", r"\1", url).rstrip("/")
    return os.path.abspath(root / ".dvc" / Path(url).expanduser())  # noqa: PTH100 (as named)


def _refuse_unknown(name: str, known: Mapping[str, object] | list[str]) -> None:
    if name not in known:
        todo = nearest(name, known) or "add it: `affectlake remote add NAME URL`"
        raise UsageError(f"there is no remote {name!r}", allowed=", ".join(sorted(known)), todo=todo)


def settings_left(root: Path) -> str:
    """Return a line if ``.dvc/config`` is not as in the last commit; empty otherwise."""
    head = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if head is None or is_committed(root, head):
        return ""
    return ".dvc/config has changes that are not committed, and that a clone does not have"
