"""``params.yaml`` as text: parsed as DVC does, and edited without losing comments.

:mod:`affectlake.pipelines.params.study` defines its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from affectlake.errors import UsageError, nearest


def read_yaml(text: str, name: str) -> Any:
    """Parse YAML as DVC does, so that both read the same values.

    Parameters
    ----------
    text : str
        The YAML.
    name : str
        Name of the text in messages.

    Raises
    ------
    UsageError
        If the text is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        found = str(error).replace("\n", " ")
        quotes = "put quotes around texts with a colon inside brackets, such as addresses of servers"
        raise UsageError(
            f"{name} is not YAML", found=found, todo=quotes if "unexpected ':'" in found else ""
        ) from error


def text_editor() -> Any:
    """Return a YAML editor that keeps comments and quotes."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    return editor


def override(text: str, assignments: tuple[str, ...]) -> str:
    """Return the text of a ``params.yaml`` after assignments ``key.path=value``; comments are kept.

    A key that its section lacks is added at the end of the section; whether there is such a setting is for
    :func:`affectlake.pipelines.params.study.parse` to check.

    Raises
    ------
    UsageError
        If an assignment has no ``=``, or its section is not in the file.
    """
    if not assignments:
        return text
    editor = text_editor()
    document = editor.load(text)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set needs KEY=VALUE, not {assignment!r}", todo="such as --set sources.ratings=PATH")
        *folders, last = key.strip().split(".")
        place = document
        for word in folders:
            place = place.get(word) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            section = ".".join(folders)
            todo = nearest(key, _dotted(document)) or f"set the whole section: --set '{section}={{{last}: …}}'"
            raise UsageError(f"params.yaml has no key {section!r}", todo=todo)
        place[last] = read_yaml(value, f"the value of --set {key.strip()}")
    out = StringIO()
    editor.dump(document, out)
    return out.getvalue()


def value_at(node: Any, key: str) -> Any:
    """Return the value at a dotted `key`; None if there is none."""
    for word in key.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node


def _dotted(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += _dotted(value, f"{prefix}{key}.")
    return found
