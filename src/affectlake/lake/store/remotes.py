"""A DVC remote (a folder, SSH, S3, …): list, check, send and fetch its objects.

The layout is DVC's, so that ``dvc pull`` finds what is sent. Unlike with ``dvc push``, an object gets its name only
after it has arrived (a killed ``dvc push`` leaves a partial object under its final name on an SSH server), and the
remote is always asked, whatever was sent before. Versions and Git are in :mod:`~affectlake.lake.transfer`.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from affectlake.errors import AffectlakeError, LakeError, UsageError, nearest
from affectlake.lake.files import names
from affectlake.lake.files.checksums import State, examine, examine_stream
from affectlake.lake.store.remote_failures import failure, not_installed
from affectlake.lake.store.remote_settings import Settings, settings_here

_LEFT_OVER = timedelta(days=1)
_ASIDE = re.compile(r"[0-9a-f]{32}(\.dir)?-[0-9a-f]{8}")
_AT_ONCE = 16

T = TypeVar("T")


class Remote:
    """A DVC remote, reached through DVC's file system for its kind.

    Parameters
    ----------
    name : str
        Its name in DVC's settings.
    fs : dvc_objects.fs.base.FileSystem
        The file system.
    path : str
        The remote's root in it.
    url : str
        Its URL, for messages.
    """

    def __init__(self, name: str, fs: Any, path: str, url: str) -> None:
        from dvc_objects.fs.base import ObjectFileSystem

        self.name = name
        self.path = path
        self.url = url
        self._fs = fs
        self._is_store = isinstance(fs, ObjectFileSystem)
        # an object store lists an object once it is complete; a file system lists a file from its first byte.
        # By HTTP, nothing can be renamed
        self._shows_parts = not self._is_store and fs.protocol not in ("http", "https")

    def at(self, md5: str) -> str:
        """Return the path of the object `md5` in the remote."""
        names.digest(md5)
        return str(self._fs.join(self.path, "files", "md5", md5[:2], md5[2:]))

    def sizes(self, md5s: Iterable[str]) -> dict[str, int]:
        """Return the size in bytes of each of the objects that the remote has."""
        found = self._each(self._size, md5s)
        return {md5: size for md5, size in found.items() if size is not None}

    def has_place(self) -> bool:
        """Return whether the remote's folder or bucket exists; True where that cannot be asked."""
        if self._fs.protocol in ("http", "https"):
            return True
        place = self.path.lstrip("/").split("/")[0] if self._is_store else self.path
        try:
            return bool(self._fs.exists(place))
        except Exception:  # without the right to list it
            return True

    def examine(self, md5s: Iterable[str]) -> dict[str, State | None]:
        """Read objects and return what is wrong with each (None: nothing), as :func:`.checksums.examine` does."""
        return self._each(self._state, md5s)

    def fetch(self, targets: Mapping[str, Path]) -> dict[str, State | None]:
        """Fetch objects to their `targets` (path by MD5); an object that is not intact is not placed.

        Returns
        -------
        dict
            What was wrong with each object; None if it was fetched.
        """
        return self._each(lambda md5: self._bring(md5, targets[md5]), targets)

    def send(self, sources: Mapping[str, Path]) -> None:
        """Send objects (path by MD5), listings after their files; existing objects are replaced."""
        self._sweep()
        files = [md5 for md5 in sources if not md5.endswith(".dir")]
        for batch in (files, [md5 for md5 in sources if md5.endswith(".dir")]):
            self._each(lambda md5: self._put(sources[md5], md5), batch)

    def _each(self, act: Callable[[str], T], md5s: Iterable[str]) -> dict[str, T]:
        """Apply `act` to every object, several at a time; stop at the first failure."""
        wanted = list(dict.fromkeys(md5s))
        with self._reaching(), ThreadPoolExecutor(min(_AT_ONCE, self._fs.jobs)) as pool:
            try:
                return dict(zip(wanted, pool.map(act, wanted), strict=True))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except AffectlakeError:
            raise
        except Exception as error:  # each kind of remote has its own exceptions
            raise failure(self.name, self.url, error) from error

    def _size(self, md5: str) -> int | None:
        try:
            return int(self._fs.info(self.at(md5))["size"])
        except FileNotFoundError:
            return None

    def _state(self, md5: str) -> State | None:
        try:
            with self._fs.open(self.at(md5), "rb") as source:
                return examine_stream(source, md5)
        except FileNotFoundError:
            return "missing"

    def _bring(self, md5: str, target: Path) -> State | None:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".come-")
        os.close(descriptor)
        aside = Path(name)
        try:
            self._fs.get_file(self.at(md5), str(aside))
            state = examine(aside, md5)
            if state is None:
                _flush(aside)
                aside.chmod(0o444)
                aside.replace(target)
            return state
        except FileNotFoundError:
            return "missing"
        finally:
            aside.unlink(missing_ok=True)

    def _put(self, source: Path, md5: str) -> None:
        target = self.at(md5)
        if not self._shows_parts:
            self._fs.put_file(str(source), target)
            return
        aside = self._fs.join(self._aside(), f"{md5}-{secrets.token_hex(4)}")
        self._fs.makedirs(self._fs.parent(target), exist_ok=True)
        self._fs.put_file(str(source), aside)
        self._fs.move(aside, target)

    def _aside(self) -> str:
        return str(self._fs.join(self.path, "incoming"))

    def _sweep(self) -> None:
        """Remove temporary files, recognised by name, of pushes that were killed more than a day ago."""
        if not self._shows_parts:
            return
        with self._reaching():
            try:
                found = self._fs.ls(self._aside(), detail=False)
            except FileNotFoundError:
                return
            for path in found:
                ours = _ASIDE.fullmatch(self._fs.name(path)) is not None
                if ours and datetime.now(UTC) - self._fs.modified(path) > _LEFT_OVER:
                    self._fs.rm_file(path)


def open_remote(root: Path, name: str = "", commit: str = "") -> Remote:
    """Return the lake's DVC remote `name`; the default remote if empty.

    Parameters
    ----------
    root : Path
        Root of the lake.
    name : str
        The remote.
    commit : str
        A commit whose ``.dvc/config`` overrides the folder's; none if empty.

    Raises
    ------
    UsageError
        If there is no remote of that name.
    LakeError
        If the lake has no default remote, the remote cannot be reached, or it refuses access.
    """
    return open_in(settings_here(root, commit), name)


def open_in(settings: Settings, name: str = "") -> Remote:
    """Return the DVC remote `name` of these settings, as :func:`open_remote` does."""
    from dvc.config import ConfigError
    from dvc.fs import RemoteMissingDepsError, get_cloud_fs

    known, wanted = sorted(settings.remotes), (name or settings.default).lower()
    if not wanted:
        raise LakeError(
            "no DVC remote is the default one, from which files would come",
            allowed=", ".join(known),
            todo="`affectlake remote add NAME URL --default`, or name one with --remote",
        )
    if wanted not in known:
        todo = nearest(wanted, known) or "add it: `affectlake remote add NAME URL`"
        raise UsageError(f"there is no remote {wanted!r}", allowed=", ".join(known), todo=todo)
    url = settings.remotes[wanted].get("url", "")
    if not url:
        raise LakeError(
            f"the remote {wanted} has settings of yours but no URL: whoever added it did not commit it",
            todo=f"ask for its URL, then `affectlake remote add {wanted} URL`",
        )
    try:
        kind, entry, path = get_cloud_fs({"core": {}, "remote": settings.remotes}, name=wanted)
        fs = kind(**entry)
        _ = fs.fs  # connects
    except (ImportError, RemoteMissingDepsError) as error:
        raise not_installed(wanted, url) from error
    except ConfigError as error:
        raise LakeError(
            f"DVC does not accept the settings of the remote {wanted}",
            found=str(error),
            todo=f"correct them with `dvc remote modify {wanted} …` (`dvc remote modify --help`)",
        ) from error
    except Exception as error:  # each kind of remote has its own exceptions
        raise failure(wanted, url, error) from error
    return Remote(wanted, fs, path, url)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
