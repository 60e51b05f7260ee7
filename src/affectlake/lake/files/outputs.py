"""An output: a table, or the partition of a table that belongs to one agent. Steps make outputs, manifests list them.

In ``dvc.yaml``, pointers, messages and records of steps, it is spelled ``TABLE`` or ``TABLE/PARTITION``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from affectlake.lake.files import layout, names


@dataclass(frozen=True, order=True)
class Output:
    """A table, or one partition of it.

    Its name is checked when a path is made of it, because names may come from other lakes.

    Parameters
    ----------
    table : str
        Name of the table and of its contract.
    partition : str
        Name of the partition, such as the agent; empty for a table that is one output.
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
        """Return the output whose folder is `path` in a manifest; None if it is not the folder of an output."""
        found = cls.named(path.removeprefix(f"{layout.TABLES}/"))
        return found if path == f"{layout.TABLES}/{found}" and found.is_legal else None

    def __str__(self) -> str:
        return f"{self.table}/{self.partition}" if self.partition else self.table

    @property
    def is_legal(self) -> bool:
        """Whether its name is valid, so that a path can be made of it."""
        return names.is_output(str(self))

    @property
    def path(self) -> Path:
        """Its name as a path.

        Raises
        ------
        LakeError
            If it is not a valid name of an output.
        """
        return Path(names.output(str(self)))

    @property
    def folder(self) -> Path:
        """The folder of its parts, within the lake."""
        return layout.TABLES / self.path

    @property
    def pointer(self) -> Path:
        """The ``.dvc`` file with its hash, if it is a collected output."""
        return layout.COLLECTED / f"{self.path}.dvc"
