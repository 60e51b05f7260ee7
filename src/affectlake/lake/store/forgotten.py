"""The participants whose rows were removed from a lake, by hashes, so that no import or join brings them back.

``storage/forgotten.yaml`` is part of every version. A hash is scrypt (Percival & Josefsson 2016, RFC 7914; N = 4096,
r = 8, p = 1) of agent and participant under a random salt. Whoever has the file can test a guess, so that it hides ids
that cannot be guessed, such as random ones, and not ``P01``. The file also lists the cached objects that were removed
because they held such rows: they are neither expected nor fetched again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.names import is_digest
from affectlake.lake.store.git_objects import content_at

_SALT_BYTES, _HASH_BYTES = 16, 16
_HEAD = b"# Hashes of participants whose rows were removed (`affectlake forget`), and files that held their rows.\n"


class Entry(NamedTuple):
    """A forgotten participant: the agent, and salt and hash in hexadecimal."""

    agent: str
    salt: str
    hash: str


@dataclass(frozen=True)
class Forgotten:
    """The list: its entries, and the MD5 of each cached object that was removed."""

    entries: frozenset[Entry] = frozenset()
    withdrawn: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether the list has an entry or an object."""
        return bool(self.entries or self.withdrawn)

    def __or__(self, other: Forgotten) -> Forgotten:
        """Return the entries and objects of both."""
        return Forgotten(self.entries | other.entries, self.withdrawn | other.withdrawn)

    def agents(self) -> set[str]:
        """Return the agents that have a forgotten participant."""
        return {one.agent for one in self.entries}

    def among(self, agent: str, participants: Iterable[str | None]) -> list[str]:
        """Return those of `participants` who are forgotten under an agent: 10 ms of computing for each."""
        return [one for one in participants if one is not None and any(self._entries_of(agent, one))]

    def _entries_of(self, agent: str, participant: str) -> Iterator[Entry]:
        of_agent = {one for one in self.entries if one.agent == agent}
        for salt in sorted({one.salt for one in of_agent}):
            found = Entry(agent, salt, _hash(salt, agent, participant))
            if found in of_agent:
                yield found

    def with_participant(self, agent: str, participant: str) -> Forgotten:
        """Return the list with a participant."""
        if any(self._entries_of(agent, participant)):
            return self
        salts = sorted({one.salt for one in self.entries if one.agent == agent})
        salt = salts[0] if salts else secrets.token_hex(_SALT_BYTES)
        new = Entry(agent, salt, _hash(salt, agent, participant))
        return Forgotten(self.entries | {new}, self.withdrawn)

    def without_participant(self, agent: str, participant: str) -> Forgotten:
        """Return the list without a participant, whose rows are then accepted again."""
        return Forgotten(self.entries - set(self._entries_of(agent, participant)), self.withdrawn)

    def text(self) -> bytes:
        """Return the content of the file."""
        body = {
            "participants": [one._asdict() for one in sorted(self.entries)],
            "withdrawn": sorted(self.withdrawn),
        }
        return _HEAD + yaml.safe_dump(body, sort_keys=False).encode()


NOBODY = Forgotten()


def read_forgotten(root: Path, commit: str = "") -> Forgotten:
    """Return the list in the folder, or in a commit; empty if there is none.

    Raises
    ------
    LakeError
        If the file is damaged.
    """
    path = root / layout.FORGOTTEN
    here = path.read_bytes() if path.exists() else None
    content = content_at(root, commit, layout.FORGOTTEN) if commit else here
    return NOBODY if content is None else _parsed(content)


def every_forgotten(root: Path, commits: Iterable[str]) -> Forgotten:
    """Return the entries and objects of the lists of all `commits`."""
    found = NOBODY
    for commit in commits:
        found |= read_forgotten(root, commit)
    return found


def write_forgotten(root: Path, forgotten: Forgotten) -> None:
    """Replace the list in the folder; the caller holds the writer lock."""
    write_whole(root / layout.FORGOTTEN, forgotten.text())


def begin_forgetting(root: Path, parts: Mapping[str, Collection[str]]) -> None:
    """Write a mark with the parts (MD5, by output) of the latest version that are missing on purpose."""
    path = root / layout.FORGETTING
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump({output: sorted(md5s) for output, md5s in parts.items()}).encode())


def being_forgotten(root: Path) -> dict[str, frozenset[str]]:
    """Return the mark of :func:`begin_forgetting`; it remains until the removal is published."""
    path = root / layout.FORGETTING
    found = yaml.safe_load(path.read_bytes()) if path.exists() else {}
    return {str(output): frozenset(map(str, md5s)) for output, md5s in found.items()}


def end_forgetting(root: Path) -> None:
    """Remove the mark of :func:`begin_forgetting`."""
    (root / layout.FORGETTING).unlink(missing_ok=True)


def withdrawn(root: Path, commits: Collection[str] = ()) -> frozenset[str]:
    """Return the MD5 of the objects that were removed, by the list in the folder and those of `commits`."""
    found = read_forgotten(root).withdrawn
    return found.union(*(read_forgotten(root, commit).withdrawn for commit in commits))


def _hash(salt: str, agent: str, participant: str) -> str:
    text = f"{agent}\0{participant}".encode()
    return hashlib.scrypt(text, salt=bytes.fromhex(salt), n=4096, r=8, p=1, dklen=_HASH_BYTES).hex()


def _parsed(content: bytes) -> Forgotten:
    try:
        body: Any = yaml.safe_load(content) or {}
        entries = frozenset(
            Entry(str(one["agent"]), bytes.fromhex(one["salt"]).hex(), bytes.fromhex(one["hash"]).hex())
            for one in body.get("participants") or []
        )
        gone = frozenset(str(one) for one in body.get("withdrawn") or [])
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(str(error)) from error
    odd = [one for one in gone if not is_digest(one)]
    if odd:
        raise _damaged(f"{odd[0]!r} is not a hash")
    return Forgotten(entries, gone)


def _damaged(found: str) -> LakeError:
    return LakeError(
        f"{layout.FORGOTTEN} is damaged",
        wanted="the list that `affectlake forget` wrote",
        found=found.splitlines()[0],
        todo=f"restore it with `git checkout HEAD -- {layout.FORGOTTEN}`",
    )
