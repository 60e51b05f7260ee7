"""The names in ``params.yaml``: of agents, schedules, subjects and the study.

Names become values in tables, and names of files, DVC stages and Prefect deployments. They are checked when the file is
read, before anything is written under a name that would be refused later.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from affectlake.lake.tables.contracts import contract
from affectlake.mistakes import Mistake
from affectlake.pipelines.params.text import value_at

LONGEST = 100
"""Maximum number of characters of a name. File names, of at most 255, may contain several names."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NEVER = r"\.$|^([cC][oO][nN]|[pP][rR][nN]|[aA][uU][xX]|[nN][uU][lL]|[cC][oO][mM][0-9]|[lL][pP][tT][0-9])(\.|$)"
NAME = r"^[a-z0-9][a-z0-9-]*$"


class _Kind(NamedTuple):
    """A kind of name: what it names, its pattern, and a description of the pattern."""

    what: str
    pattern: str
    legal: str


def _agent() -> _Kind:
    pattern = contract("choices").column("agent").pattern
    return _Kind("an agent", pattern, "lower-case letters, digits, '.', '_' and '-'")


def _subject() -> _Kind:
    return _Kind("a subject", contract("voxels").column("subject").pattern, "letters, digits, '_' and '-'")


def _with_dashes(what: str) -> _Kind:
    return _Kind(what, NAME, "lower-case letters, digits and '-'")


def wrong_names(raw: object) -> Iterator[Mistake]:
    """Yield the invalid names in a ``params.yaml``.

    A name is a text, matches its pattern, is not too long, and differs from other names in more than case.

    Parameters
    ----------
    raw : object
        Parsed content of the file; unexpected values are ignored.
    """
    if isinstance(raw, Mapping) and "study" in raw:
        yield from _check([("study", raw["study"])], _with_dashes("a study"))
    yield from _check(_at(raw, "agents", Mapping), _agent())
    yield from _check(_at(raw, "schedules", Mapping), _with_dashes("a schedule"))
    yield from _check(_at(raw, "brain.sources.participants", list), _subject())
    for key in ("sources.subjects", "sources.masks", "sources.atlases", "surfaces"):
        yield from _check(_at(raw, f"brain.{key}", Mapping), _subject())


def wrong_protocol_names(folder: str, names: list[str]) -> Iterator[Mistake]:
    """Yield the invalid names among those of the protocol files in `folder`."""
    kind = _Kind("a protocol", r"^[a-z0-9][a-z0-9.-]*$", "lower-case letters, digits, '.' and '-'")
    once = {name.lower(): name for name in names}
    yield from (_one_case(folder, name, once[name.lower()]) for name in names if once[name.lower()] != name)
    yield from _check([(folder, name) for name in names if list(map(str.lower, names)).count(name.lower()) == 1], kind)


def agent_names(schema: dict[str, Any]) -> None:
    """Add to a mapping's JSON schema that its keys are names of agents; for `json_schema_extra`."""
    schema["propertyNames"] = _schema_of(_agent())


def subject_names(schema: dict[str, Any]) -> None:
    """Add to a mapping's JSON schema that its keys are names of subjects."""
    schema["propertyNames"] = _schema_of(_subject())


def unique_subject_names(schema: dict[str, Any]) -> None:
    """Add to a list's JSON schema that its items are unique names of subjects."""
    schema.update({"items": _schema_of(_subject()), "uniqueItems": True})


def schedule_names(schema: dict[str, Any]) -> None:
    """Add to a mapping's JSON schema that its keys are names of schedules."""
    schema["propertyNames"] = _schema_of(_with_dashes("a schedule"))


def study_name(schema: dict[str, Any]) -> None:
    """Add to a text's JSON schema that it is the name of a study."""
    schema.update(_schema_of(_with_dashes("a study")))


def _schema_of(kind: _Kind) -> dict[str, Any]:
    return {"type": "string", "pattern": kind.pattern, "maxLength": LONGEST, "not": {"pattern": _NEVER}}


def _at(raw: object, key: str, form: type[Mapping[Any, Any]] | type[list[Any]]) -> list[tuple[str, object]]:
    """Return the names at a dotted key, each with its path: the keys of a mapping, the values of a list."""
    found = value_at(raw, key)
    if not isinstance(found, form):
        return []
    named = list(cast("Iterable[object]", found))
    return [(f"{key}[{at}]" if form is list else key, name) for at, name in enumerate(named)]


def _check(names: list[tuple[str, object]], kind: _Kind) -> Iterator[Mistake]:
    known: dict[str, str] = {}
    for path, name in names:
        if not isinstance(name, str):
            yield _not_a_text(path, name, kind)
            continue
        wrong = _wrong(name, kind)
        if wrong:
            better = suggestion(name, kind.pattern)
            yield Mistake(
                path,
                f": {_shown(name)} is not a name for {kind.what}: {wrong}",
                allowed=f"{kind.legal}; first a letter or digit; at most {LONGEST} characters",
                todo=f"call it {better!r}" if better and better not in [given for _, given in names] else "",
            )
        elif known.setdefault(name.lower(), name) != name:
            yield _one_case(path, known[name.lower()], name)


def _one_case(path: str, one: str, other: str) -> Mistake:
    problem = f": {one!r} and {other!r} differ only in the case of letters"
    return Mistake(path, problem, wanted="names that are different on every file system")


def _not_a_text(path: str, name: object, kind: _Kind) -> Mistake:
    read_as = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}.get(
        type(name), "a date"
    )
    written = "null" if name is None else str(name).lower()
    return Mistake(
        path,
        f": {written} is not a name for {kind.what}: YAML reads it as {read_as}",
        todo=f"put it in quotes: '{written}'",
    )


def _wrong(text: str, kind: _Kind) -> str:
    """Return why a name is invalid; empty if it is valid."""
    if len(text) > LONGEST:
        return f"it has {len(text):,} characters"
    if not re.fullmatch(kind.pattern, text):
        odd = [character for character in dict.fromkeys(text) if not re.fullmatch(kind.pattern, f"0{character}")]
        return f"it has {', '.join(map(repr, odd))}" if odd else "it does not begin with a letter or digit"
    if text.endswith("."):
        return "it ends with a dot"
    return "it is the name of a device on Windows" if _DEVICES.fullmatch(text) else ""


def suggestion(text: str, pattern: str) -> str:
    """Return a valid name similar to `text`: ``qwen-qwen2-vl-7b`` for ``Qwen/Qwen2-VL-7B``; empty if there is none."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = plain if re.fullmatch(pattern, "A") else plain.lower()
    name = "".join(one if re.fullmatch(pattern, f"0{one}") else "-" for one in plain)
    name = re.sub(r"-+", "-", name).strip("-._")[:LONGEST].strip("-._")
    return f"{name}-1" if _DEVICES.fullmatch(name) else name


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST else f"{text[:40]}…")
