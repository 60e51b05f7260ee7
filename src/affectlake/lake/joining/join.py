"""Two lakes as one: their versions under names here, their answers in one new version that has both as parents.

Everything is made ready aside: the other side's objects come into the cache and are verified, new parts go there too,
and the commit is built. Then one Git transaction gives the names and moves the branch, and the folder follows. A kill
before it leaves the old state, a kill after it the new one, and joining again goes on.

Parameters are decided by the caller (:data:`Settle`): the lake does not know what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import UsageError
from affectlake.lake.advance import (
    advance,
    finish_advance,
    is_ancestor,
    refuse_dirty,
    refuse_in_the_way,
    refuse_unready,
)
from affectlake.lake.checkout import refuse_unpublished
from affectlake.lake.files import layout
from affectlake.lake.files.git import branch_of, git, git_or_none, identity
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import verify
from affectlake.lake.joining.files import bring_parts, bring_versions
from affectlake.lake.joining.other_lake import NOBODY, Theirs, forget, look, named, no_common_version
from affectlake.lake.joining.rows import Gained, unite
from affectlake.lake.joining.tree import merged_tree
from affectlake.lake.recovery import recover, sweep
from affectlake.lake.repository import describe
from affectlake.lake.store.cache import read_listing
from affectlake.lake.store.lake_format import refuse_newer_at
from affectlake.lake.store.merges import (
    forwarded,
    merging,
    ours_of,
    pointers,
    refuse_changed,
    refuse_conflicts,
    strays,
    torn,
    uncovered,
)
from affectlake.lake.store.tags import TAGS, number, references
from affectlake.lake.store.versions import Manifest, Version, blobs, content_at, list_versions
from affectlake.lake.tables.appending import pointer_text

Say = Callable[[str], None]


class Parting(NamedTuple):
    """What the parameters of a joined version are decided from.

    Attributes
    ----------
    folder, ours : bytes
        The ``params.yaml`` in the folder, and ours; they differ while a merge by Git is in progress.
    theirs : list of bytes
        The ``params.yaml`` of each other side.
    base : bytes
        That of the last commit that both sides have.
    collected : mapping of Output to str
        The outputs that grow, united, with their listings.
    """

    folder: bytes
    ours: bytes
    theirs: list[bytes]
    base: bytes
    collected: Mapping[Output, str]


class Settled(NamedTuple):
    """The parameters of a joined version, and a line for each thing to be said of them."""

    params: bytes
    notes: list[str]


Settle = Callable[[Parting], Settled]


class Joined(NamedTuple):
    """What a join did.

    Attributes
    ----------
    version : Version or None
        The version that the lake is at now; None if it had everything already.
    made : bool
        Whether the join made that version; else it is one of theirs.
    taken : list of str
        Names here of the versions that came.
    renamed : list of str
        A line for each version whose name is not what it was.
    gained : mapping of Output to Gained
        What came to each output that grows.
    notes : list of str
        A line for each thing that differs, and stays as it was here.
    """

    version: Version | None
    made: bool
    taken: list[str]
    renamed: list[str]
    gained: Mapping[Output, Gained]
    notes: list[str]


def join(root: Path, source: str, remote: str, settle: Settle, say: Say) -> Joined:
    """Unite this lake with another, or with what Git has merged into it; the caller holds the writer lock.

    Parameters
    ----------
    root : Path
        Root of the lake.
    source : str
        Name of a Git remote, or another lake's folder; empty for what Git has brought already.
    remote : str
        Name of the DVC remote that files come from, where they do not come from a folder; the default one when empty.
    settle : callable
        Decides on the parameters of the joined version.
    say : callable
        Takes one line of progress.

    Raises
    ------
    UsageError
        If there is nothing of that name, or nothing that Git has brought.
    LakeError
        If the folder holds work that is in no version, or the two lakes never were one.
    VersionError
        If a file of the other side is missing or damaged; no name is taken then.
    """
    sweep(root)
    finish_advance(root, say)
    mending = bool(merging(root)) or torn(root)
    if mending:
        refuse_conflicts(root)
        refuse_changed(root)
    elif forwarded(root):
        refuse_dirty(root)
        refuse_changed(root)
    else:
        recover(root, say)
    theirs = look(root, source) if source else NOBODY
    try:
        return _Join(root, theirs, remote, settle, say, mending=mending).done()
    finally:
        forget(root)


class _Join:
    """One join.

    Attributes
    ----------
    head : str
        The commit of the branch.
    heads : list of str
        The commits, of both sides, that no other of them leads to.
    base : str
        The one that the branch is at or leads to.
    ours : str
        The commit whose parameters, manifest and answers are taken for ours.
    commits : dict of str to str
        The commit of each version, of both sides, by its name here.
    """

    def __init__(self, root: Path, theirs: Theirs, remote: str, settle: Settle, say: Say, *, mending: bool) -> None:
        self.root, self.theirs, self.remote, self.settle, self.say = root, theirs, remote, settle, say
        self.mending, self.forwarded = mending, not mending and forwarded(root)
        self.known = list_versions(root)
        self.head = git(root, "rev-parse", "HEAD").strip()
        self.heads = self._heads()
        leading = [commit for commit in self.heads if is_ancestor(root, self.head, commit)]
        self.base = self.head if mending else leading[0]
        self.ours = ours_of(root) if mending else self.base
        lost = strays(root, [*self.heads, self.head], [*self.known, *theirs.versions])
        self.commits, self.renamed = named(self.known, theirs, lost)
        self.last = max(self.commits, key=number)
        here = {version.commit for version in self.known}
        had = set(git(root, "rev-list", self.head).split())
        every = [Version(name, commit, "", "", "", "") for name, commit in self.commits.items()]
        self.new = [version for version in every if version.commit not in here]
        # those that Git brought have names here, and their files may be elsewhere
        self.apart = [version for version in every if version.commit not in here & had]

    def _heads(self) -> list[str]:
        latest = [self.known[-1].commit] if self.known else []
        ends = list(dict.fromkeys([self.head, *merging(self.root), *latest, *self.theirs.tips]))
        found = git(self.root, "merge-base", "--independent", *ends).split()
        for other in found:
            if git_or_none(self.root, "merge-base", self.head, other) is None:
                raise no_common_version(self.root, self.theirs)
            refuse_newer_at(self.root, other)
        return sorted(found, key=ends.index)

    def done(self) -> Joined:
        """Do what is to be done."""
        if self.heads == [self.head] and not self.mending:
            if self.commits == {version.name: version.commit for version in self.known}:
                return self._nothing()
            bring_versions(self.root, self.apart, self.theirs, self.remote, self.say)
            if not self.known or self.commits[self.last] == self.known[-1].commit:
                return self._moved()
        if not self.mending and not self.forwarded:
            refuse_unready(self.root)
            if self.known:
                refuse_unpublished(self.root)
        bring_versions(self.root, self.apart, self.theirs, self.remote, self.say)
        if self.heads == [self.base] and not self.mending and self._is_last_version(self.base):
            refuse_in_the_way(self.root, self.base)
            return self._moved()
        return self._made()

    def _nothing(self) -> Joined:
        if self.theirs is NOBODY:
            raise UsageError(
                "there is nothing to join: Git has brought no history of another lake",
                wanted="SOURCE: a Git remote, or the folder of another lake",
                allowed=", ".join(git(self.root, "remote").split()),
            )
        return Joined(None, made=False, taken=[], renamed=[], gained={}, notes=[])

    def _is_last_version(self, commit: str) -> bool:
        """Whether a commit holds what the last version does, and leads from it without a merge by Git."""
        last = self.commits[self.last]
        if commit == last:
            return True
        merged = uncovered(self.root, commit, "--merges", known=self.commits.values())
        state = [*map(str, layout.STATE)]
        return (
            not merged
            and is_ancestor(self.root, last, commit)
            and (blobs(self.root, commit, state) == blobs(self.root, last, state))
        )

    def _moved(self) -> Joined:
        """Take the names, and move on to a commit that holds the last version."""
        self._advance(self.commits, self.base)
        return self._joined({}, [], made=False)

    def _made(self) -> Joined:
        """Make the version that holds what both sides have, with both as parents."""
        others = [head for head in self.heads if head != self.base]
        sources = self._sources()
        sides = [_whole(pointers(self.root, commit)) for commit in sources]
        if self.mending:
            sides.append(_whole(pointers(self.root, "")))
        bring_parts(self.root, sides, self.theirs, self.remote, self.say)
        united = unite(self.root, _whole(pointers(self.root, self.ours)), sides)
        settled = self.settle(self._parting(sources, united.digests))
        files = {layout.PARAMS: settled.params}
        for output, digest in united.digests.items():
            text = pointer_text(output, digest, len(read_listing(self.root, digest)))
            files[output.pointer] = text.encode()
        for path in (layout.PIPELINE, layout.PIPELINE_LOCK):  # as the tables were made; a run makes those of all
            content = content_at(self.root, self.ours, path)
            if content is not None:
                files[path] = content
        tree, kept = merged_tree(self.root, self.base, others, files)
        name = f"v{number(self.last) + 1}"
        message = describe(name, Manifest(self.root, tree), Manifest(self.root, self.ours), f"joins {self.theirs.name}")
        parents = [word for parent in (self.base, *others) for word in ("-p", parent)]
        commit = git(self.root, "commit-tree", tree, *parents, stdin=message, env=identity(self.root)).strip()
        verify(self.root, Version(name, commit, "", "", "", ""))
        if not self.mending:
            refuse_in_the_way(self.root, commit)
        self._advance(self.commits | {name: commit}, commit)
        notes = [*settled.notes, *(f"{path} differs; yours is kept" for path in kept)]
        return self._joined(united.gained, notes, made=True)

    def _sources(self) -> list[str]:
        """Return the commits that may name parts which ours does not: heads, what is no version yet, what it is of."""
        found: dict[str, None] = {}
        for head in dict.fromkeys([*self.heads, self.head]):
            found[head] = None
            since = uncovered(self.root, head, "--boundary", known=self.commits.values())
            found |= dict.fromkeys(commit.removeprefix("-") for commit in since)
        return [commit for commit in found if commit != self.ours]

    def _parting(self, sources: list[str], collected: Mapping[Output, str]) -> Parting:
        apart = [commit for commit in sources if not is_ancestor(self.root, commit, self.ours)]
        if self.heads != [self.head]:
            apart = [commit for commit in apart if commit in self.heads]
        path = self.root / layout.PARAMS
        ours = content_at(self.root, self.ours, layout.PARAMS) or b""
        folder = path.read_bytes() if self.mending and path.exists() else ours
        common = git_or_none(self.root, "merge-base", self.ours, *apart[:1]) if apart else None
        base = content_at(self.root, common.split()[0], layout.PARAMS) if common else None
        theirs = [text for commit in apart if (text := content_at(self.root, commit, layout.PARAMS))]
        return Parting(folder, ours, theirs, base or b"", collected)

    def _advance(self, commits: Mapping[str, str], target: str) -> None:
        have = {version.name: version.commit for version in self.known}
        tags = references(self.root, TAGS)  # a tag may be an object of its own
        lines = [f"create {TAGS}{name} {commit}" for name, commit in commits.items() if name not in have]
        lines += [
            f"update {TAGS}{name} {commits[name]} {tags[name]}"
            for name, commit in have.items()
            if commits.get(name, commit) != commit
        ]
        lines += [f"delete {TAGS}{name} {tags[name]}" for name in have if name not in commits]
        if target != self.head:
            lines.append(f"update {branch_of(self.root)} {target} {self.head}")
        advance(self.root, "".join(f"{line}\n" for line in lines), target, self.say, anew=self.forwarded)

    def _joined(self, gained: Mapping[Output, Gained], notes: list[str], *, made: bool) -> Joined:
        names = [version.name for version in self.new]
        return Joined(list_versions(self.root)[-1], made, names, self.renamed, gained, notes)


def _whole(found: Mapping[Output, str | None]) -> dict[Output, str]:
    return {output: digest for output, digest in found.items() if digest is not None}
