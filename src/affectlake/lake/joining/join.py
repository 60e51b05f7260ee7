"""Join two lakes: name the other's versions here, and make one version with the answers of both.

Everything is prepared first: the other side's objects are fetched into the cache and verified, new parts are added to
it, and the commit is built. Then one Git transaction creates the tags and moves the branch, and the folder is updated.
A kill before it leaves the old state, a kill after it the new one; joining again continues from there.

The caller merges the parameters (:data:`MergeParams`), as their meaning is not part of the lake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from affectlake.errors import UsageError
from affectlake.lake.advance import (
    advance,
    finish_advance,
    follows,
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
from affectlake.lake.joining.other_lake import (
    ALREADY_FETCHED,
    Theirs,
    assign_names,
    delete_references,
    fetch_references,
    no_common_version,
)
from affectlake.lake.joining.rows import Gained, unite
from affectlake.lake.joining.tree import merged_tree
from affectlake.lake.recovery import recover, remove_unfinished
from affectlake.lake.repository import describe
from affectlake.lake.store.cache import read_listing
from affectlake.lake.store.forgotten import every_forgotten
from affectlake.lake.store.git_objects import blobs, content_at, read_blobs
from affectlake.lake.store.lake_format import refuse_newer_at
from affectlake.lake.store.merges import (
    has_unjoined_merge,
    is_fast_forwarded,
    merging,
    ours_of,
    pointers,
    refuse_changed,
    refuse_conflicts,
    unpublished_commits,
    untagged_versions,
)
from affectlake.lake.store.tags import TAGS, number, references
from affectlake.lake.store.version_names import pull_names
from affectlake.lake.store.versions import Manifest, Version, list_versions
from affectlake.lake.tables.appending import pointer_text

Say = Callable[[str], None]


class Sides(NamedTuple):
    """The parameters of all sides, from which those of a joined version are made.

    Attributes
    ----------
    folder, ours : bytes
        The ``params.yaml`` in the folder and in our commit; they differ while a merge by Git is in progress.
    theirs : list of bytes
        The ``params.yaml`` of each other side.
    base : bytes
        The ``params.yaml`` of the last commit that both sides have.
    collected : mapping of Output to str
        Listing of each collected output, after uniting the sides.
    protocols : mapping of Path to bytes
        The protocol files of all sides, by path; of a file that differs, ours.
    """

    folder: bytes
    ours: bytes
    theirs: list[bytes]
    base: bytes
    collected: Mapping[Output, str]
    protocols: Mapping[Path, bytes] = MappingProxyType({})


class MergedParams(NamedTuple):
    """The parameters of a joined version, and one line for each remark about them."""

    text: bytes
    notes: list[str]


MergeParams = Callable[[Sides], MergedParams]


class Joined(NamedTuple):
    """The result of a join.

    Attributes
    ----------
    version : Version or None
        The version that the lake has now; None if it had everything already.
    made : bool
        Whether the join made that version; otherwise it is one of the other lake's.
    taken : list of str
        Names here of the versions that were added.
    renamed : list of str
        One line for each version whose name changed.
    gained : mapping of Output to Gained
        Rows that were added to each collected output.
    notes : list of str
        One line for each file or setting that differs and was kept as it was here.
    """

    version: Version | None
    made: bool
    taken: list[str]
    renamed: list[str]
    gained: Mapping[Output, Gained]
    notes: list[str]


def join(root: Path, source: str, remote: str, merge_params: MergeParams, say: Say) -> Joined:
    """Join this lake with another, or with a history that Git has merged; the caller holds the writer lock.

    Parameters
    ----------
    root : Path
        Root of the lake.
    source : str
        Name of a Git remote, or another lake's folder; empty for a history that Git has fetched already.
    remote : str
        Name of the DVC remote to fetch files from if `source` is not a folder; the default remote if empty.
    merge_params : callable
        Returns the parameters of the joined version.
    say : callable
        Called with one line of progress.

    Raises
    ------
    UsageError
        If `source` does not exist, or is empty and Git has not fetched another history.
    LakeError
        If the folder has unpublished work, or the two lakes have no version in common.
    VersionError
        If a file of the other side is missing or damaged; no version is added then.
    """
    remove_unfinished(root)
    finish_advance(root, say)
    merged = bool(merging(root)) or has_unjoined_merge(root)
    if merged:
        refuse_conflicts(root)
        refuse_changed(root)
    elif is_fast_forwarded(root):
        refuse_dirty(root)
        refuse_changed(root)
    else:
        recover(root, say)
    theirs = fetch_references(root, source) if source else ALREADY_FETCHED
    try:
        done = _Join(root, theirs, remote, merge_params, say, merged=merged).run()
    finally:
        delete_references(root)
    if source:
        pull_names(root, str(theirs.folder or source), {version.commit for version in list_versions(root)}, say)
    return done


class _Join:
    """One join.

    Attributes
    ----------
    head : str
        Commit of the branch.
    heads : list of str
        The commits of both sides that are not ancestors of one another.
    base : str
        The one of them that is the branch's commit or a descendant of it.
    ours : str
        The commit whose parameters, manifest and answers are ours.
    commits : dict of str to str
        The commit of each version, of both sides, by its name here.
    """

    def __init__(
        self, root: Path, theirs: Theirs, remote: str, merge_params: MergeParams, say: Say, *, merged: bool
    ) -> None:
        self.root, self.theirs, self.remote, self.merge_params, self.say = root, theirs, remote, merge_params, say
        self.merged, self.fast_forwarded = merged, not merged and is_fast_forwarded(root)
        self.known = list_versions(root)
        self.head = git(root, "rev-parse", "HEAD").strip()
        self.heads = self._heads()
        leading = [commit for commit in self.heads if is_ancestor(root, self.head, commit)]
        self.base = self.head if merged else leading[0]
        self.ours = ours_of(root) if merged else self.base
        untagged = untagged_versions(root, [*self.heads, self.head], [*self.known, *theirs.versions])
        self.commits, self.renamed = assign_names(self.known, theirs, untagged)
        self.last = max(self.commits, key=number)
        here = {version.commit for version in self.known}
        had = set(git(root, "rev-list", self.head).split())
        every = [Version(name, commit, "", "", "", "") for name, commit in self.commits.items()]
        self.new = [version for version in every if version.commit not in here]
        # versions that Git fetched have names here, but perhaps no files
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

    def run(self) -> Joined:
        """Join the two lakes, as far as necessary."""
        if self.heads == [self.head] and not self.merged:
            if self.commits == {version.name: version.commit for version in self.known}:
                return self._nothing()
            bring_versions(self.root, self.apart, self.theirs, self.remote, self.say)
            if not self.known or self.commits[self.last] == self.known[-1].commit:
                return self._moved()
        if not self.merged and not self.fast_forwarded:
            refuse_unready(self.root)
            if self.known:
                refuse_unpublished(self.root)
        bring_versions(self.root, self.apart, self.theirs, self.remote, self.say)
        if self.heads == [self.base] and not self.merged and self._is_last_version(self.base):
            refuse_in_the_way(self.root, self.base)
            return self._moved()
        return self._made()

    def _nothing(self) -> Joined:
        if self.theirs is ALREADY_FETCHED:
            raise UsageError(
                "there is nothing to join: Git has not fetched the history of another lake",
                wanted="SOURCE: a Git remote, or the folder of another lake",
                allowed=", ".join(git(self.root, "remote").split()),
            )
        return Joined(None, made=False, taken=[], renamed=[], gained={}, notes=[])

    def _is_last_version(self, commit: str) -> bool:
        """Return whether a commit has the same state as the last version and follows it without a merge by Git."""
        return follows(self.root, commit, self.commits[self.last], self.commits.values())

    def _moved(self) -> Joined:
        """Create the tags, and advance to a commit that has the last version."""
        self._advance(self.commits, self.base)
        return self._joined({}, [], made=False)

    def _made(self) -> Joined:
        """Make a version with the content of both sides, and with both as parents."""
        others = [head for head in self.heads if head != self.base]
        sources = self._sources()
        sides = [_whole(pointers(self.root, commit)) for commit in sources]
        if self.merged:
            sides.append(_whole(pointers(self.root, "")))
        bring_parts(self.root, sides, self.theirs, self.remote, self.say)
        forgotten = every_forgotten(self.root, [self.ours, *sources])
        united = unite(self.root, _whole(pointers(self.root, self.ours)), sides, forgotten)
        params = self.merge_params(self._sides(sources, united.digests))
        files = {layout.PARAMS: params.text} | ({layout.FORGOTTEN: forgotten.text()} if forgotten else {})
        for output, digest in united.digests.items():
            text = pointer_text(output, digest, len(read_listing(self.root, digest)))
            files[output.pointer] = text.encode()
        for path in (layout.PIPELINE, layout.PIPELINE_LOCK):  # as for our tables; a run updates them
            content = content_at(self.root, self.ours, path)
            if content is not None:
                files[path] = content
        tree, kept = merged_tree(self.root, self.base, others, files)
        name = f"v{number(self.last) + 1}"
        message = describe(name, Manifest(self.root, tree), Manifest(self.root, self.ours), f"joins {self.theirs.name}")
        parents = [word for parent in (self.base, *others) for word in ("-p", parent)]
        commit = git(self.root, "commit-tree", tree, *parents, stdin=message, env=identity(self.root)).strip()
        verify(self.root, Version(name, commit, "", "", "", ""))
        if not self.merged:
            refuse_in_the_way(self.root, commit)
        self._advance(self.commits | {name: commit}, commit)
        notes = [*params.notes, *(f"{path} differs; yours is kept" for path in kept)]
        return self._joined(united.gained, notes, made=True)

    def _sources(self) -> list[str]:
        """Return the commits that may name parts that ours does not: heads, commits after a version, and its own."""
        found: dict[str, None] = {}
        for head in dict.fromkeys([*self.heads, self.head]):
            found[head] = None
            since = unpublished_commits(self.root, head, "--boundary", known=self.commits.values())
            found |= dict.fromkeys(commit.removeprefix("-") for commit in since)
        return [commit for commit in found if commit != self.ours]

    def _sides(self, sources: list[str], collected: Mapping[Output, str]) -> Sides:
        apart = [commit for commit in sources if not is_ancestor(self.root, commit, self.ours)]
        if self.heads != [self.head]:
            apart = [commit for commit in apart if commit in self.heads]
        path = self.root / layout.PARAMS
        ours = content_at(self.root, self.ours, layout.PARAMS) or b""
        folder = path.read_bytes() if self.merged and path.exists() else ours
        common = git_or_none(self.root, "merge-base", self.ours, *apart[:1]) if apart else None
        base = content_at(self.root, common.split()[0], layout.PARAMS) if common else None
        theirs = [text for commit in apart if (text := content_at(self.root, commit, layout.PARAMS))]
        files = [file for commit in (*apart, self.ours) for file in blobs(self.root, commit, [str(layout.PROTOCOLS)])]
        contents = read_blobs(self.root, [name for _, name in files])
        protocols = {Path(path): content for (path, _), content in zip(files, contents, strict=True)}
        return Sides(folder, ours, theirs, base or b"", collected, protocols)

    def _advance(self, commits: Mapping[str, str], target: str) -> None:
        have = {version.name: version.commit for version in self.known}
        tags = references(self.root, TAGS)  # a tag may be annotated
        lines = [f"create {TAGS}{name} {commit}" for name, commit in commits.items() if name not in have]
        lines += [
            f"update {TAGS}{name} {commits[name]} {tags[name]}"
            for name, commit in have.items()
            if commits.get(name, commit) != commit
        ]
        lines += [f"delete {TAGS}{name} {tags[name]}" for name in have if name not in commits]
        if target != self.head:
            lines.append(f"update {branch_of(self.root)} {target} {self.head}")
        advance(self.root, "".join(f"{line}\n" for line in lines), target, self.say, always_update=self.fast_forwarded)

    def _joined(self, gained: Mapping[Output, Gained], notes: list[str], *, made: bool) -> Joined:
        names = [version.name for version in self.new]
        return Joined(list_versions(self.root)[-1], made, names, self.renamed, gained, notes)


def _whole(found: Mapping[Output, str | None]) -> dict[Output, str]:
    return {output: digest for output, digest in found.items() if digest is not None}
