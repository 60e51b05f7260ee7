"""Figures drawn from inputs that a test made."""

from __future__ import annotations

from typing import Any

from affectlake.report import ReportInputs
from affectlake.report.agent_summary import agent_facts, agents
from affectlake.report.figures.catalogue import FIGURES


def figure_of(name: str, inputs: ReportInputs, agent: str = "", axes: Any = None, **chosen: str) -> Any:
    """Draw the figure `name`, of one agent where it is a figure of one."""
    (entry,) = [one for one in FIGURES if one.name == name]
    about = agent_facts(inputs, agent) if agent else [agent_facts(inputs, one) for one in agents(inputs)]
    return entry.made(inputs, about, axes, **chosen)
