"""A ``dvc.yaml`` that affectlake and its user share: our stages are written anew, the user's part stays as it is.

Whose a stage is, its command tells (:func:`affectlake.lake.files.names.is_step`). What the user wrote is kept as text,
with its comments; where the file is laid out in another way than DVC's (in braces, log), it is kept as data.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any, NamedTuple

import yaml

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.names import is_step

HEAD = "# Written by affectlake from its steps and params.yaml; edit params.yaml, not this file.\n"
_EARLIER_HEAD = "# Rendered from pipelines/steps.py and params.yaml by affectlake; edit those, not this file.\n"
SHARED = "# Stages and keys of your own are kept as you wrote them.\n"

Stages = dict[str, Any]


def only_ours(ours: Stages) -> str:
    """Return the text of a file that holds our stages alone."""
    return HEAD + yaml.safe_dump({"stages": ours}, sort_keys=False, width=120, allow_unicode=True)


def our_stages(text: str) -> Stages:
    """Return those stages of a ``dvc.yaml`` that are ours."""
    return {name: entry for name, entry in _stages(_read(text)).items() if _is_ours(name, entry)}


def with_ours(text: str, ours: Stages) -> str:
    """Return the text of a ``dvc.yaml`` with our stages replaced by `ours`, and everything else kept.

    Raises
    ------
    LakeError
        If the file is not YAML, or a stage of the user's has the name of one of ours or writes where tables lie.
    """
    body = _read(text)
    theirs = {name: entry for name, entry in _stages(body).items() if not _is_ours(name, entry)}
    others = {key: value for key, value in body.items() if key != "stages"}
    refuse_clashes(theirs, ours)
    if not theirs and not others:
        return only_ours(ours)
    wanted = {"stages": {**ours, **theirs}, **others}
    stages = only_ours(ours).removeprefix(HEAD)
    above, below = _kept_text(text, set(theirs), set(others))
    kept = HEAD + SHARED + above + stages + below
    if _same(kept, wanted):
        return kept
    more = _dumped({"stages": theirs}).removeprefix("stages:\n") if theirs else ""
    return HEAD + SHARED + stages + more + (_dumped(others) if others else "")


def refuse_clashes(theirs: Stages, ours: Stages) -> None:
    """Raise :class:`LakeError` if a stage of the user's has the name of one of ours, or writes where tables lie."""
    for name, entry in theirs.items():
        if name in ours:
            raise LakeError(
                f"{layout.PIPELINE} has a stage {name!r} of your own, and affectlake has one of that name",
                todo="give yours another name",
            )
        for path in _written(entry):
            if layout.leads_to_tables(path) or layout.TABLES.is_relative_to(path):
                raise LakeError(
                    f"the stage {name!r} in {layout.PIPELINE} writes {path}, where affectlake keeps its tables",
                    wanted=f"a path outside {layout.TABLES}",
                    todo="let it write elsewhere; nothing was changed",
                )


def _written(entry: Any) -> Iterator[str]:
    body = _body(entry)
    for kind in ("outs", "metrics", "plots"):
        outs = body.get(kind)
        for one in outs if isinstance(outs, list) else ():
            for path in one if isinstance(one, dict) else [one]:
                yield posixpath.normpath(posixpath.join(str(body.get("wdir", ".")), str(path)))


def _is_ours(name: str, entry: Any) -> bool:
    return is_step(name, _body(entry).get("cmd"))


def _body(entry: Any) -> dict[str, Any]:
    """Return what a stage is: of one that runs for each of several, what stands under ``do``."""
    found = entry.get("do", entry) if isinstance(entry, dict) else {}
    return found if isinstance(found, dict) else {}


def _read(text: str) -> dict[str, Any]:
    """Read YAML as DVC does."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise LakeError(
            f"{layout.PIPELINE} is not YAML",
            found=str(error).replace("\n", " "),
            todo="mend it, or take the last version's with `git checkout -- dvc.yaml`",
        ) from error
    if not isinstance(found or {}, dict) or not isinstance((found or {}).get("stages") or {}, dict):
        raise LakeError(f"{layout.PIPELINE} is not a mapping with stages", todo="mend it, or move it away")
    return found or {}


def _stages(body: Mapping[str, Any]) -> Stages:
    return dict(body.get("stages") or {})


def _same(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return _read(text) == wanted
    except LakeError:
        return False


class _Block(NamedTuple):
    """A key of a mapping as text: its name, how deep it stands in spaces, and its lines with the comments above it."""

    name: str
    depth: int
    lines: list[str]

    def at(self, depth: int) -> str:
        """Return the lines with the key so many spaces deep, and the rest by as much deeper as it was."""
        kept = (line[min(self.depth, len(line) - len(line.lstrip(" "))) :] for line in self.lines)
        return "".join(" " * depth + line if line.strip() else line for line in kept)


def _kept_text(text: str, theirs: set[str], others: set[str]) -> tuple[str, str]:
    """Return the comments above ``stages``, and the user's stages, two spaces deep, with the user's other keys."""
    lines = text.splitlines(keepends=True)
    top = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(top, yaml.MappingNode)
    above = below = ""
    for key, value in top.value:
        if key.value == "stages":
            start = key.start_mark.line
            above = "".join(_not_heads(lines[_above(lines, start) : start]))
            blocks = _blocks(value, lines) if isinstance(value, yaml.MappingNode) else ()
            below += "".join(block.at(2) for block in blocks if block.name in theirs)
    return above, below + "".join(block.at(0) for block in _blocks(top, lines) if block.name in others)


def _blocks(mapping: yaml.MappingNode, lines: list[str]) -> Iterator[_Block]:
    marks = [key.start_mark for key, _ in mapping.value]
    starts = [_above(lines, mark.line) for mark in marks]
    end = mapping.end_mark.line
    # comments at the end of the file are the last key's, others belong to what comes below them
    ends = [*starts[1:], len(lines) if end >= len(lines) else _above(lines, end)]
    for at, (key, _) in enumerate(mapping.value):
        block = _not_heads(lines[starts[at] : ends[at]])
        ended = [*block[:-1], block[-1].removesuffix("\n") + "\n"] if block else []
        yield _Block(str(key.value), marks[at].column, ended)


def _not_heads(lines: list[str]) -> list[str]:
    return [line for line in lines if line not in (HEAD, SHARED, _EARLIER_HEAD)]


def _above(lines: list[str], start: int) -> int:
    """Return the first of the lines of comments, or empty ones, that stand above a line."""
    while start and (not lines[start - 1].strip() or lines[start - 1].lstrip().startswith("#")):
        start -= 1
    return start


def _dumped(body: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    editor, out = YAML(), StringIO()
    editor.width = 120
    editor.dump(dict(body), out)
    return out.getvalue()
