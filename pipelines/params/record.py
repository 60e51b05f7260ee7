"""``params.yaml`` of a version, read leniently: the current rules do not apply to earlier versions.

:func:`affectlake.pipelines.params.study.load` reads the parameters of a run, and is strict. Here no key is required or
refused, and unknown keys are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affectlake.lake.files import layout
from affectlake.lake.files.git import git_bytes
from affectlake.lake.store.versions import Version
from affectlake.pipelines.params.text import value_at

_NEEDS_SERVERS = ("chat",)


@dataclass(frozen=True)
class StudyRecord:
    """The parameters of a version, as far as they can be read.

    Parameters
    ----------
    raw : mapping
        Parsed content of the file; empty if it is not a YAML mapping.
    unreadable : str
        Why the file cannot be read; empty if it can.
    """

    raw: Mapping[str, Any] = field(default_factory=dict)
    unreadable: str = ""

    def at(self, key: str) -> Any:
        """Return the value at a dotted `key`; None if the file has none."""
        return value_at(self.raw, key)

    def text(self, key: str) -> str:
        """Return the value at a dotted `key` as text; empty if the file has none."""
        value = self.at(key)
        return "" if value is None or isinstance(value, (Mapping, list)) else str(value)

    def mapping(self, key: str) -> dict[str, Mapping[str, Any]]:
        """Return the entries at a dotted `key` that are mappings, by name."""
        found = self.at(key)
        entries = found.items() if isinstance(found, Mapping) else ()
        return {str(name): entry for name, entry in entries if isinstance(entry, Mapping)}

    @property
    def asked_agents(self) -> list[str]:
        """The agents that need a server, recognised by their kind or, for unknown kinds, by the key ``servers``."""
        return [
            name
            for name, entry in self.mapping("agents").items()
            if entry.get("kind") in _NEEDS_SERVERS or "servers" in entry
        ]


def record_of(text: bytes) -> StudyRecord:
    """Return the record of the content of a ``params.yaml``; one that is not YAML gives an empty record."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        raw = YAML(typ="safe").load(text.decode())
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        return StudyRecord(unreadable=" ".join(str(error).split()) or type(error).__name__)
    if not isinstance(raw, Mapping):
        return StudyRecord(unreadable=f"it holds {type(raw).__name__}, not a mapping" if raw is not None else "")
    return StudyRecord(raw)


def record_at(lake: Path, version: Version) -> StudyRecord:
    """Return the parameters of a version."""
    return record_of(git_bytes(lake, "cat-file", "blob", f"{version.commit}:./{layout.PARAMS}"))
