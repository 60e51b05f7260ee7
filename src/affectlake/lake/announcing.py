"""Whether clones of a lake can fetch the files of its versions: checked before versions are announced to others.

A clone has the ``.dvc/config`` of the commit that is pushed; it has neither ``.dvc/config.local`` nor edits that are
not committed. Keys and passwords, which every user has of their own, are borrowed from this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.store.remote_settings import (
    LOCAL,
    Settings,
    committed_settings,
    is_committed,
    leads_into_clone,
    settings_here,
    settings_in,
    settings_of_clones,
)
from affectlake.lake.store.remotes import Remote, open_in

_AGAIN = "then push again"


class Clones:
    """The clones that others make of a commit, and the remotes that they can use.

    Parameters
    ----------
    root : Path
        Root of the lake.
    commit : str
        The commit that is pushed.
    away : Remote
        The remote that files are sent to.
    named : str
        Its name, if the user named it; clones may be told to use it.

    Raises
    ------
    LakeError
        If clones can use no remote; the message has the cause.
    """

    def __init__(self, root: Path, commit: str, away: Remote, named: str = "") -> None:
        self.root, self.commit, self.away = root, commit, away
        self.here = settings_here(root)
        self.written = committed_settings(root, commit)
        self.there = settings_of_clones(root, commit)
        self.remotes: list[Remote] = []
        failures = []
        told = [away.name] if named and away.name in self.written.remotes else []
        for name in dict.fromkeys(filter(None, [self.written.default, *told])):
            try:
                self.remotes.append(self._opened(name))
            except LakeError as error:
                failures.append(error)
        if not self.remotes:
            cause = self._other_remote("no file was sent") or (failures[0] if failures else self._no_default())
            raise cause

    def _opened(self, name: str) -> Remote:
        url = self.written.remotes.get(name, {}).get("url", "")
        if not url:
            raise self._unknown(name, "no file was sent")
        if leads_into_clone(self.root, url):
            raise LakeError(
                "no version was announced and no file was sent:"
                f" the remote {name} is a folder of this lake, which a clone does not have",
                found=self.there.remotes[name]["url"],
                todo="add a remote that others can reach (a folder of a shared disk, SSH, S3, …):"
                f" `affectlake remote add NAME URL --default`; {_AGAIN}",
            )
        if name == self.away.name and _same(self.here, self.there, name):
            return self.away
        try:
            return open_in(self.there, name)
        except LakeError as error:
            error.summary = f"no version was announced: for a clone, {error.summary}"
            error.found = "; ".join(filter(None, (error.found, self._difference(name))))
            raise

    def refuse_lacking(self, sizes: Mapping[str, int], say: Callable[[str], None]) -> None:
        """Raise :class:`LakeError` unless one of the remotes of clones has every object (size in bytes by MD5)."""
        counts = []
        for remote in self.remotes:
            there = {} if remote is self.away else remote.sizes(sizes)
            n_lacking = 0 if remote is self.away else sum(there.get(md5) != size for md5, size in sizes.items())
            if not n_lacking:
                if remote.name != self.written.default:
                    say(f"clones fetch these versions with `affectlake pull --remote {remote.name}` only")
                return
            counts.append(f"the remote {remote.name} ({remote.url}) lacks {n_lacking} of {len(sizes)} files")
        name = self.remotes[0].name
        raise self._other_remote(counts[0]) or LakeError(
            f"no version was announced: a clone could not fetch it, as {counts[0]}",
            found=self._difference(name) or f"files were sent to {self.away.name} ({self.away.url})",
            todo=f"make the URL of {name} the same for all: `affectlake remote list` shows where it is set; {_AGAIN}",
        )

    def _other_remote(self, sent: str) -> LakeError | None:
        """Return the error if clones do not know the remote that is used here, or use another one by default."""
        used = self.away.name
        if used not in self.written.remotes or not self.written.remotes[used].get("url"):
            return self._unknown(used, sent)
        if used == self.written.default or leads_into_clone(self.root, self.written.remotes[used]["url"]):
            return None
        default = self.written.default
        return LakeError(
            f"no version was announced: clones use {f'the remote {default}' if default else 'no remote'} by default,"
            f" not {used}",
            found="; ".join(filter(None, (sent, self._edits()))),
            todo=f"make {used} the default for all: `affectlake remote add {used} {self.away.url} --default`"
            f"{f'; or send to {default}: `affectlake push --remote {default}`' if default else ''}; {_AGAIN}",
        )

    def _unknown(self, name: str, sent: str) -> LakeError:
        """Return the error for a remote that is not in the commit."""
        url = self.here.remotes.get(name, {}).get("url", "URL")
        is_default = not self.written.default or self.here.default == name
        return LakeError(
            f"no version was announced: a clone would not know the remote {name}",
            found="; ".join(filter(None, (self._whereabouts(name), sent))),
            todo=f"`affectlake remote add {name} {url}{' --default' if is_default else ''}` commits it; {_AGAIN}",
        )

    def _no_default(self) -> LakeError:
        return LakeError(
            "no version was announced and no file was sent: clones have no default remote",
            found=self._edits(),
            todo=f"`affectlake remote add {self.away.name} {self.away.url} --default`; {_AGAIN}",
        )

    def _whereabouts(self, name: str) -> str:
        """Return where a remote that is not in the commit is set."""
        places = settings_in(self.root)
        if "url" in places["lake"].remotes.get(name, {}):
            return f"it is in .dvc/config, which has changes that are not committed ({self.commit[:10]})"
        if "url" in places["machine"].remotes.get(name, {}):
            return f"it is in {LOCAL} only, which stays on this machine"
        if any("url" in places[place].remotes.get(name, {}) for place in ("user", "system")):
            return "it is in your own DVC settings only (`dvc config --list --show-origin`)"
        return f"it is not in the .dvc/config of {self.commit[:10]}"

    def _difference(self, name: str) -> str:
        """Return why a remote is another one here than for a clone; empty if it is the same."""
        if _same(self.here, self.there, name):
            return ""
        ours = self.here.remotes.get(name, {})
        if settings_in(self.root)["machine"].remotes.get(name, {}).get("url"):
            return f"{LOCAL} sets another URL on this machine: {ours['url']}"
        return self._edits() or f"here it has the settings {', '.join(sorted(self._other_settings(name)))} besides"

    def _other_settings(self, name: str) -> set[str]:
        ours, theirs = self.here.remotes.get(name, {}), self.there.remotes.get(name, {})
        return {key for key in ours if ours[key] != theirs.get(key)}

    def _edits(self) -> str:
        return "" if is_committed(self.root, self.commit) else ".dvc/config has changes that are not committed"


def _same(one: Settings, other: Settings, name: str) -> bool:
    """Return whether two settings mean the same remote by a name."""
    ours, theirs = one.remotes.get(name), other.remotes.get(name)
    base = (ours or {}).get("url", "").partition("remote://")[2].partition("/")[0].lower()
    return ours == theirs and (not base or _same(one, other, base))
