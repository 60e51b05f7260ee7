"""The names that ``params.yaml`` gives: of agents, schedules, subjects and the study itself.

They become values of tables and names of files, of DVC's stages and of Prefect's deployments. What is legal is checked
when the file is read, before anything is asked or written under a name that is refused later.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from affectlake.errors import UsageError
from affectlake.lake.tables.contracts import contract

LONGEST = 100
"""Characters of a name: file systems take 255, and names of files hold more than one of these."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_DASHES = r"^[a-z0-9][a-z0-9-]*$"


class _Kind(NamedTuple):
    """What is named, what a name must match, and what that is called."""

    what: str
    pattern: str
    legal: str


def check_names(name: str, raw: object) -> None:
    """Refuse names that cannot be used.

    Parameters
    ----------
    name : str
        What to call the file in messages.
    raw : object
        The file as it was read; what is not where names are is not looked at.

    Raises
    ------
    UsageError
        A name that is not a text, does not match its pattern, is too long, or differs from another in case alone.
    """
    agents = _Kind("an agent", contract("choices").column("agent").pattern, "small letters, digits, '.', '_' and '-'")
    subjects = _Kind("a subject", contract("voxels").column("subject").pattern, "letters, digits, '_' and '-'")
    dashes = "small letters, digits and '-'"
    if isinstance(raw, Mapping) and "study" in raw:
        _check(f"{name}: study", [raw["study"]], _Kind("a study", _DASHES, dashes))
    _check(f"{name}: agents", _at(raw, "agents", Mapping), agents)
    _check(f"{name}: schedules", _at(raw, "schedules", Mapping), _Kind("a schedule", _DASHES, dashes))
    for key, form in (("sources.subjects", Mapping), ("sources.participants", list), ("surfaces", Mapping)):
        _check(f"{name}: brain.{key}", _at(raw, f"brain.{key}", form), subjects)


def _at(raw: object, key: str, form: type) -> list[object]:
    """Return the names at a dotted key: the keys of a mapping, the values of a list; none where it has another form."""
    for word in key.split("."):
        raw = raw.get(word) if isinstance(raw, Mapping) else None
    return list(raw) if isinstance(raw, form) and isinstance(raw, Iterable) else []


def _check(where: str, names: list[object], kind: _Kind) -> None:
    known: dict[str, str] = {}
    for name in names:
        text = _text(where, name, kind)
        wrong = _wrong(text, kind)
        if wrong:
            better = suggestion(text, kind.pattern)
            raise UsageError(
                f"{where}: {_shown(text)} is not a name for {kind.what}: {wrong}",
                allowed=f"{kind.legal}; the first a letter or digit, and at most {LONGEST} characters",
                todo=f"call it {better!r}" if better and better not in names else "",
            )
        if known.setdefault(text.lower(), text) != text:
            raise UsageError(
                f"{where}: {known[text.lower()]!r} and {text!r} differ only in the case of letters",
                wanted="names that stay apart on every file system",
            )


def _text(where: str, name: object, kind: _Kind) -> str:
    """Return a name as the text it is; one that YAML reads as something else is said as such."""
    if isinstance(name, str):
        return name
    read_as = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}.get(
        type(name), "a date"
    )
    written = "null" if name is None else str(name).lower()
    raise UsageError(
        f"{where}: {written} is not a name for {kind.what}: YAML reads it as {read_as}",
        todo=f"put it in quotes: '{written}'",
    )


def _wrong(text: str, kind: _Kind) -> str:
    """Return what is wrong with a name; empty if nothing is."""
    if len(text) > LONGEST:
        return f"it has {len(text):,} characters"
    if not re.fullmatch(kind.pattern, text):
        odd = [character for character in dict.fromkeys(text) if not re.fullmatch(kind.pattern, f"0{character}")]
        return f"it has {', '.join(map(repr, odd))}" if odd else "it does not begin with a letter or digit"
    if text.endswith("."):
        return "it ends with a dot"
    return "it is the name of a device on Windows" if _DEVICES.fullmatch(text) else ""


def suggestion(text: str, pattern: str) -> str:
    """Return a legal name like `text`: ``qwen-qwen2-vl-7b`` for ``Qwen/Qwen2-VL-7B``; empty if there is none."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = plain if re.fullmatch(pattern, "A") else plain.lower()
    name = "".join(one if re.fullmatch(pattern, f"0{one}") else "-" for one in plain)
    name = re.sub(r"-+", "-", name).strip("-._")[:LONGEST].strip("-._")
    return f"{name}-1" if _DEVICES.fullmatch(name) else name


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST else f"{text[:40]}…")
