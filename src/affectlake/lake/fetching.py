"""Fetch the files of versions from a DVC remote into the cache, and say why some did not come, and who can help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from affectlake.errors import LakeError, VersionError
from affectlake.lake.files.checksums import State, examine
from affectlake.lake.files.git import git
from affectlake.lake.fsck import Users
from affectlake.lake.store.remote_settings import settings_here
from affectlake.lake.store.remotes import Remote, open_remote
from affectlake.lake.store.tags import has_origin
from affectlake.lake.store.versions import Version, cached_object

PER_ROUND = 32
"""Files that are sent or fetched between two lines of progress."""

Authors = Mapping[str, str]
"""Who published each version, by its name."""

_NOBODY: Authors = MappingProxyType({})
_SHARE = "run `affectlake remote add NAME URL --default`, then `affectlake push`; then do this again"


def authors_of(versions: Iterable[Version]) -> Authors:
    """Return who published each version."""
    return {version.name: version.author for version in versions}


def open_to_fetch(root: Path, remote: str, commit: str, authors: Authors) -> Remote:
    """Open the DVC remote that files come from: `remote`, or the default one.

    Parameters
    ----------
    root : Path
        Root of the lake.
    remote : str
        Name of the remote; the default remote if empty.
    commit : str
        A commit whose ``.dvc/config`` overrides the folder's; none if empty.
    authors : mapping of str to str
        Who published the versions.

    Raises
    ------
    LakeError
        If this clone has no remote, or it cannot be used.
    """
    settings = settings_here(root, commit)
    if not remote and not settings.default and not settings.remotes and has_origin(root):
        raise LakeError(
            "this clone has no DVC remote, from which files would come",
            found="no remote in the .dvc/config that was pushed",
            todo=f"ask {_who(authors, authors)} to {_SHARE}",
        )
    return open_remote(root, remote, commit)


def take(
    root: Path,
    wanted: Mapping[str, Users],
    reach: Callable[[], Remote],
    say: Callable[[str], None],
    authors: Authors = _NOBODY,
) -> int:
    """Fetch objects into the cache and verify them; objects with other bytes are not kept.

    Parameters
    ----------
    root : Path
        Root of the lake.
    wanted : mapping of str to Users
        The objects by MD5; those that are in the cache and intact are not fetched.
    reach : callable
        Returns the remote that they come from; called if one of them is needed.
    say : callable
        Called with one line of progress.
    authors : mapping of str to str
        Who published the versions, for the message.

    Returns
    -------
    int
        How many came.

    Raises
    ------
    VersionError
        If an object of a table is missing or damaged there; the message names the cause.
    """
    lacking = [md5 for md5 in wanted if examine(cached_object(root, md5), md5)]
    if not lacking:
        return 0
    away = reach()
    bad: dict[str, State] = {}
    for start in range(0, len(lacking), PER_ROUND):
        came = away.fetch({md5: cached_object(root, md5) for md5 in lacking[start : start + PER_ROUND]})
        bad |= {md5: state for md5, state in came.items() if state}
        say(f"{min(start + PER_ROUND, len(lacking)) - len(bad)} of {len(lacking)} files fetched")
    theirs = [md5 for md5 in bad if not wanted[md5].is_table]
    if theirs:  # of user-defined stages, perhaps never pushed
        say(f"{not_tables(wanted, theirs)} missing or damaged in the remote {away.name}")
        bad = {md5: state for md5, state in bad.items() if md5 not in theirs}
    if bad:
        raise _not_fetched(root, {md5: (wanted[md5], bad[md5]) for md5 in bad}, len(lacking), away, authors)
    return len(lacking) - len(theirs)


def not_tables(wanted: Mapping[str, Users], md5s: list[str]) -> str:
    """Return the beginning of a line about objects of user-defined stages: which they are, and how many."""
    paths = sorted({wanted[md5].path for md5 in md5s})
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(paths[:3])}{more}, of user-defined stages: {len(md5s)} files are"


def _not_fetched(
    root: Path, bad: Mapping[str, tuple[Users, State]], n_asked: int, away: Remote, authors: Authors
) -> VersionError:
    """Return the error for objects that are missing or damaged in a remote."""
    who = _who([name for use, _ in bad.values() for name in use.versions], authors)
    if all(state == "missing" for _, state in bad.values()):
        if len(bad) == n_asked and (cause := _empty_place(root, away, who)):
            return cause
        summary = f"{len(bad)} of {n_asked} files are not in the remote {away.name} ({away.url})"
        todo = f"ask {who} to run `affectlake push`, which sends missing files; then do this again"
    else:
        summary = f"{len(bad)} of {n_asked} files could not be fetched intact from the remote {away.name} ({away.url})"
        todo = f"ask {who} to run `affectlake fsck --repair` and push again; then do this again"
    lines = [f"{', '.join(use.versions)} {use.path}: {state} ({md5})" for md5, (use, state) in bad.items()]
    return VersionError(summary, found="\n         ".join(lines[:5]), todo=todo)


def _empty_place(root: Path, away: Remote, who: str) -> VersionError | None:
    """Return the error for a remote that has nothing because it is a folder of this clone, or does not exist."""
    is_folder = "://" not in away.url
    top = Path(git(root, "rev-parse", "--show-toplevel").rstrip("\n"))
    if is_folder and Path(away.url).resolve().is_relative_to(top.resolve()):
        return VersionError(
            f"no DVC remote of this clone has the files: {away.name} is an empty folder of the clone",
            found=away.url,
            todo=f"ask {who} to {_SHARE}",
        )
    if away.has_place():
        return None
    place = "folder" if is_folder or away.url.startswith("ssh:") else "bucket"
    return VersionError(
        f"the {place} of the remote {away.name} does not exist",
        found=away.url,
        todo=f"check its address{' (is the disk mounted?)' if is_folder else ''}: `affectlake remote list`; or ask"
        f" {who} to {_SHARE}",
    )


def _who(versions: Iterable[str], authors: Authors) -> str:
    """Return whom to ask about some versions."""
    names = list(dict.fromkeys(versions))
    people = list(dict.fromkeys(filter(None, (authors.get(name, "") for name in names))))
    return (
        f"{' or '.join(people[-2:]) or 'whoever'}{',' if people else ''} who published {names[-1]}"
        if names
        else ("the owner of the lake")
    )
