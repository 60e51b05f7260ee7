"""Names that people give to versions, such as ``submitted``: annotated tags ``lake-name/NAME``, beside ``lake/vN``.

A name points to a commit, so that it keeps its version if a join renumbers versions. A name is not moved, so that
citations that use it stay true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError, UsageError, VersionError
from affectlake.lake.files.git import git, git_or_none, identity
from affectlake.lake.store.tags import is_version_name

NAMES = "refs/tags/lake-name/"
_LEGAL = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_HASH = re.compile(r"[0-9a-f]{4,40}")
_MOST = 64
_RESERVED = {"latest", "head"}
_FIELDS = ("refname", "objectname", "*objectname", "taggername", "taggerdate:iso-strict", "contents")


class VersionName(NamedTuple):
    """A name of a version.

    Attributes
    ----------
    name, commit : str
        The name, and the commit that it points to.
    author, created : str
        Who gave it, and when (ISO 8601); empty for a tag without a message.
    note : str
        The note; may be empty.
    """

    name: str
    commit: str
    author: str
    created: str
    note: str


def version_names(root: Path) -> dict[str, VersionName]:
    """Return the names of versions, in alphabetical order."""
    form = "%00".join(f"%({field})" for field in _FIELDS) + "%00%01"
    listed = git(root, "for-each-ref", f"--format={form}", NAMES).split("\0\x01")
    found = {}
    for entry in listed:
        if not entry.strip():
            continue
        ref, own, peeled, author, created, note = entry.strip("\n").split("\0")
        name = ref.removeprefix(NAMES)
        is_tag = bool(peeled)
        found[name] = VersionName(name, peeled or own, author, created, _note(note, name) if is_tag else "")
    return found


def _note(message: str, name: str) -> str:
    text = message.strip()
    return "" if text == name else text


def add_name(root: Path, name: str, commit: str, note: str = "") -> VersionName:
    """Give a version a name.

    Parameters
    ----------
    root : Path
        Root of the lake.
    name : str
        A letter, then letters, digits, ``_``, ``-`` and single dots; not a name that versions have anyway.
    commit : str
        The version's commit.
    note : str
        A note.

    Raises
    ------
    UsageError
        If the name is not legal.
    LakeError
        If another version has this name, or the tag cannot be written.
    """
    _refuse_illegal(name)
    held = version_names(root).get(name)
    if held is not None and held.commit != commit:
        raise LakeError(
            f"{name} is the name of another version",
            found=held.commit[:10],
            todo=f"choose another name, or take this one away first: affectlake tag {name} --remove",
        )
    if held is not None and held.note == note.strip():
        return held
    words = ["tag", "--annotate", "--force", "--cleanup=verbatim", "--message", note.strip() or name]
    git(root, *words, NAMES.removeprefix("refs/tags/") + name, commit, env=identity(root))
    return version_names(root)[name]


def remove_name(root: Path, name: str) -> None:
    """Take a name away, here; raise :class:`VersionError` if no version has it."""
    if name not in (known := version_names(root)):
        raise VersionError(f"no version is named {name!r}", allowed=", ".join(known) or "there are no names")
    git(root, "update-ref", "-d", f"{NAMES}{name}")


def names_in(root: Path, source: str) -> dict[str, str]:
    """Return the commit of each name in another repository: a Git remote, or the path of a lake."""
    found: dict[str, str] = {}
    for line in sorted(git(root, "ls-remote", "--quiet", source, f"{NAMES}*").splitlines(), key=len):
        commit, ref = line.split("\t")  # a tag's own hash, then, with a longer name, that of its commit
        found[ref.removeprefix(NAMES).removesuffix("^{}")] = commit
    return {name: commit for name, commit in found.items() if _is_legal(name)}


def unannounced(root: Path, commits: set[str], say: Callable[[str], None]) -> list[str]:
    """Return the tags of the names, among those of `commits`, that the Git remote ``origin`` does not have."""
    here, there = version_names(root), names_in(root, "origin")
    _warn(here, there, "origin", say)
    return [f"{NAMES}{name}" for name, one in here.items() if name not in there and one.commit in commits]


def pull_names(root: Path, source: str, commits: set[str], say: Callable[[str], None]) -> None:
    """Fetch the names of `commits` that another repository has and this lake does not have."""
    here, there = version_names(root), names_in(root, source)
    _warn(here, there, source, say)
    new = [name for name, commit in there.items() if name not in here and commit in commits]
    if new:
        refs = "".join(f"{NAMES}{name}:{NAMES}{name}\n" for name in new)
        git(root, "fetch", "--quiet", "--no-tags", "--stdin", source, stdin=refs)
        say(f"new names of versions: {', '.join(new)}")


def _warn(here: Mapping[str, VersionName], there: Mapping[str, str], source: str, say: Callable[[str], None]) -> None:
    """Name the names that point to different versions here and in another repository; neither is changed."""
    for name in sorted(here.keys() & there.keys()):
        if (own := here[name].commit) != there[name]:
            say(
                f"warning: {name} is the name of one version here ({own[:10]}) and of another in {source} "
                f"({there[name][:10]}); both stay as they are: give one another name with `affectlake tag`"
            )


def commit_before(root: Path, name: str, versions: dict[str, str]) -> str | None:
    """Return the version that ``HEAD~2`` and the like stand for: the last one of that commit's history; None if none.

    Parameters
    ----------
    root : Path
        Root of the lake.
    name : str
        A revision of Git that begins with ``HEAD``.
    versions : dict of str to str
        Name of each version by commit.
    """
    if git_or_none(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") is None:
        return None
    history = git(root, "rev-list", f"{name}^{{commit}}").split()
    return next((versions[commit] for commit in history if commit in versions), None)


def _is_legal(name: str) -> bool:
    is_taken = is_version_name(name) or name.lower() in _RESERVED or _HASH.fullmatch(name)
    return bool(_LEGAL.fullmatch(name)) and len(name) <= _MOST and not is_taken and not name.endswith(".lock")


def _refuse_illegal(name: str) -> None:
    if not _is_legal(name):
        raise UsageError(
            f"{name!r} cannot be the name of a version",
            wanted=f"a letter, then letters, digits, _, - and single dots, at most {_MOST} characters",
            allowed="no name that means something else: v3, latest, HEAD, or the beginning of a commit such as beef",
        )
