"""A ``dvc.yaml`` with user-defined stages: the stages of affectlake are replaced, and everything else is kept.

Stages of affectlake are recognised by their command (:func:`affectlake.lake.files.names.is_step`). User-defined stages
and keys are kept as text, with their comments; if the file is not in DVC's block style, they are kept as data.
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
    """Return the text of a file that contains only the stages of affectlake."""
    return HEAD + yaml.safe_dump({"stages": ours}, sort_keys=False, width=120, allow_unicode=True)


def our_stages(text: str) -> Stages:
    """Return the stages of affectlake in a ``dvc.yaml``."""
    return {name: entry for name, entry in _stages(_read(text)).items() if _is_ours(name, entry)}


def with_ours(text: str, ours: Stages) -> str:
    """Return the text of a ``dvc.yaml`` with the stages of affectlake replaced by `ours`, and everything else kept.

    Raises
    ------
    LakeError
        If the file is not YAML, or a user-defined stage has the name of a stage of affectlake or writes to the folder
        of the tables.
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
    """Raise :class:`LakeError` if a user-defined stage has a name of `ours`, or writes to the folder of the tables."""
    for name, entry in theirs.items():
        if name in ours:
            raise LakeError(
                f"{layout.PIPELINE} has a user-defined stage {name!r}, which is the name of a stage of affectlake",
                todo="rename your stage",
            )
        for path in _written(entry):
            if layout.leads_to_tables(path) or layout.TABLES.is_relative_to(path):
                raise LakeError(
                    f"the stage {name!r} in {layout.PIPELINE} writes {path}, where affectlake keeps its tables",
                    wanted=f"a path outside {layout.TABLES}",
                    todo="change its output; nothing was changed here",
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
    """Return the body of a stage; for a ``foreach`` stage, the value of ``do``."""
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
            todo="correct it, or restore the last version's with `git checkout -- dvc.yaml`",
        ) from error
    if not isinstance(found or {}, dict) or not isinstance((found or {}).get("stages") or {}, dict):
        raise LakeError(f"{layout.PIPELINE} is not a mapping with stages", todo="correct it, or move it away")
    return found or {}


def _stages(body: Mapping[str, Any]) -> Stages:
    return dict(body.get("stages") or {})


def _same(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return _read(text) == wanted
    except LakeError:
        return False


class _Block(NamedTuple):
    """A key of a mapping as text: its name, its indentation, and its lines, with the comments above it."""

    name: str
    depth: int
    lines: list[str]

    def at(self, depth: int) -> str:
        """Return the lines, shifted so that the key is indented by `depth` spaces."""
        kept = (line[min(self.depth, len(line) - len(line.lstrip(" "))) :] for line in self.lines)
        return "".join(" " * depth + line if line.strip() else line for line in kept)


def _kept_text(text: str, theirs: set[str], others: set[str]) -> tuple[str, str]:
    """Return the comments above ``stages``, and the user-defined stages (indented by two) and other keys."""
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
    # comments at the end of the file belong to the last key, others to the key below them
    ends = [*starts[1:], len(lines) if end >= len(lines) else _above(lines, end)]
    for at, (key, _) in enumerate(mapping.value):
        block = _not_heads(lines[starts[at] : ends[at]])
        ended = [*block[:-1], block[-1].removesuffix("\n") + "\n"] if block else []
        yield _Block(str(key.value), marks[at].column, ended)


def _not_heads(lines: list[str]) -> list[str]:
    return [line for line in lines if line not in (HEAD, SHARED, _EARLIER_HEAD)]


def _above(lines: list[str], start: int) -> int:
    """Return the number of the first of the comment lines and empty lines above a line."""
    while start and (not lines[start - 1].strip() or lines[start - 1].lstrip().startswith("#")):
        start -= 1
    return start


def _dumped(body: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    editor, out = YAML(), StringIO()
    editor.width = 120
    editor.dump(dict(body), out)
    return out.getvalue()
