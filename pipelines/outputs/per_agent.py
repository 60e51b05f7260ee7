"""Results of each agent of a version, each computed at the first access: a page or a figure may need one or none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TypeVar

from affectlake.pipelines.outputs.version_tables import VersionTables

Result = TypeVar("Result")


class PerAgent(Mapping[str, Result]):
    """A result for each agent.

    Parameters
    ----------
    tables : VersionTables
        Tables of the version.
    agents : str
        SQL whose rows have a column `agent`: the agents.
    """

    def __init__(self, tables: VersionTables, agents: str) -> None:
        self._tables, self._agents = tables, agents
        self._made: dict[str, Result] = {}

    @abstractmethod
    def _compute(self, agent: str) -> Result | None:
        """Return the result of an agent; None if there is none."""

    def __getitem__(self, agent: str) -> Result:
        if agent not in self._made:
            found = self._compute(agent) if agent in set(self) else None
            if found is None:
                raise KeyError(agent)
            self._made[agent] = found
        return self._made[agent]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables.rows(self._agents)["agent"].to_list())

    def __len__(self) -> int:
        return sum(1 for _ in self)
