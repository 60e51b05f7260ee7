"""An output: a table, or the part of one that belongs to one agent. What steps make, and what manifests name.

Outside (``dvc.yaml``, pointers, messages, records of steps) it is spelled ``TABLE`` or ``TABLE/PARTITION``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from affectlake.lake.files import layout, names


@dataclass(frozen=True, order=True)
class Output:
    """A table, or one partition of it.

    Its name is not examined before a path is made of it: names come from elsewhere.

    Parameters
    ----------
    table : str
        The table, which a contract of that name describes.
    partition : str
        What the part is called, such as the agent; empty for a table that is one output.
    """

    table: str
    partition: str = ""

    @classmethod
    def named(cls, name: str) -> Output:
        """Return the output that is spelled ``TABLE`` or ``TABLE/PARTITION``."""
        table, _, partition = name.partition("/")
        return cls(table, partition)

    @classmethod
    def at(cls, path: str) -> Output | None:
        """Return the output whose folder a manifest calls `path`; None where that is not one."""
        found = cls.named(path.removeprefix(f"{layout.TABLES}/"))
        return found if path == f"{layout.TABLES}/{found}" and found.is_legal else None

    def __str__(self) -> str:
        return f"{self.table}/{self.partition}" if self.partition else self.table

    @property
    def is_legal(self) -> bool:
        """Whether a path may be made of its name."""
        return names.is_output(str(self))

    @property
    def path(self) -> Path:
        """Its name as a path.

        Raises
        ------
        LakeError
            If the name is not one of an output.
        """
        return Path(names.output(str(self)))

    @property
    def folder(self) -> Path:
        """The folder of its parts, within the lake."""
        return layout.TABLES / self.path

    @property
    def pointer(self) -> Path:
        """The file in which DVC keeps its hash, if it grows and no step makes it."""
        return layout.COLLECTED / f"{self.path}.dvc"
