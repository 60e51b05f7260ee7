"""The exceptions of affectlake.

::

    AffectlakeError            every message a user is meant to read
    ├── UsageError             the command line or params.yaml asks for something that does not exist   exit 2
    ├── SourceError            a file the user gave cannot be used as it is
    ├── SamplingError          more triplets were asked for than exist
    ├── ContractError          a table breaks its contract (its rows are in quarantine)
    ├── CheckpointError        a fit cannot be resumed from this checkpoint
    ├── CollectionError        a server cannot be asked, or answers cannot be kept
    │   └── LeaseError         another process is collecting this agent's answers
    ├── LakeError              the folder is not a lake, or not in a state to do this
    │   └── VersionError       there is no such version, or its files are damaged or missing
    ├── ExtraError             a package that only an extra installs is missing
    ├── FigureError            a version does not have the data of a figure
    └── QueryError             SQL that cannot be answered
"""

from __future__ import annotations

from collections.abc import Iterable

from affectlake.secrets import hide


class AffectlakeError(Exception):
    """A failure and its description: what was wanted, found and allowed, and what to do next.

    Parameters
    ----------
    summary : str
        What went wrong, in one phrase: lower case, no full stop.
    wanted, found, allowed : str
        What was expected, what was found instead, and which values are legal; empty where they do not apply.
    todo : str
        What the reader can do about it, as an instruction.

    Passwords in URLs are hidden in all of these texts.
    """

    exit_code = 1

    def __init__(self, summary: str, *, wanted: str = "", found: str = "", allowed: str = "", todo: str = "") -> None:
        super().__init__(hide(summary))
        self.summary = hide(summary)
        self.wanted = hide(wanted)
        self.found = hide(found)
        self.allowed = hide(allowed)
        self.todo = hide(todo)

    def __str__(self) -> str:
        parts = (("wanted", self.wanted), ("found", self.found), ("allowed", self.allowed), ("to do", self.todo))
        return "\n".join([self.summary, *(f"  {name}: {text}" for name, text in parts if text)])

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.summary, self.wanted, self.found, self.allowed, self.todo)


class UsageError(AffectlakeError):
    """The command line or ``params.yaml`` asks for something that does not exist."""

    exit_code = 2


class SourceError(AffectlakeError):
    """A file the user gave cannot be used as it is."""


class SamplingError(AffectlakeError):
    """More triplets were asked for than exist."""


class ContractError(AffectlakeError):
    """A table breaks its contract."""


class CheckpointError(AffectlakeError):
    """A fit cannot be resumed from this checkpoint."""


class CollectionError(AffectlakeError):
    """A server cannot be asked, or answers cannot be kept."""


class LeaseError(CollectionError):
    """Another process is collecting this agent's answers."""


class LakeError(AffectlakeError):
    """The folder is not a lake, or not in a state to do this."""


class VersionError(LakeError):
    """There is no such version, or its files are damaged or missing."""


class ExtraError(AffectlakeError):
    """A package that only an extra installs, such as ``affectlake[study]``, is missing."""


class FigureError(AffectlakeError):
    """A version does not have the data of a figure."""


class QueryError(AffectlakeError):
    """SQL that cannot be answered."""


def _rebuild(
    kind: type[AffectlakeError], summary: str, wanted: str, found: str, allowed: str, todo: str
) -> AffectlakeError:
    return kind(summary, wanted=wanted, found=found, allowed=allowed, todo=todo)


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest of `choices`, or an empty string if none is close."""
    from difflib import get_close_matches  # late: only mistakes need it

    found = get_close_matches(word, list(choices), n=1)
    return f"did you mean {found[0]!r}?" if found else ""
