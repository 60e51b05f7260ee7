"""The notice at the top of a page about synthetic stimuli: what is simulated, and which answers are real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from affectlake.report.agent_summary import OF_PEOPLE, AgentFacts
from affectlake.report.number_format import listed


class Banner(NamedTuple):
    """A notice: its first words, its text, and the words beside the title of each figure."""

    title: str
    text: str
    chip: str


_ALL = Banner(
    "SYNTHETIC demo data.",
    "Every stimulus, rating, caption and choice on this page was made by a seeded simulation. Nothing here was "
    "measured on people or models.",
    "synthetic data",
)


def banner_of(synthetic: bool, agents: Sequence[AgentFacts]) -> Banner | None:
    """Return the notice of a page; None if the stimuli are not synthetic.

    Parameters
    ----------
    synthetic : bool
        Whether the stimuli are synthetic.
    agents : sequence of AgentFacts
        All agents. Those with choices that are neither simulated nor imported were asked.
    """
    if not synthetic:
        return None
    real = [one for one in agents if one.n_choices and not one.is_simulated and one.kind]
    people = [one.agent for one in real if one.kind in OF_PEOPLE]
    models = [one.agent for one in real if one.kind not in OF_PEOPLE]
    if not real:
        return _ALL
    whose = listed([*(["of a real model"] if models else []), *(["of people"] if people else [])])
    asked = [f"those of {listed(models)} were given by a model that was asked"] if models else []
    asked += [f"those of {listed(people)} were given by people"] if people else []
    others = " The choices of the other agents are simulated." if len(real) < len(agents) else ""
    return Banner(
        f"SYNTHETIC stimuli, answers {whose}.",
        f"The stimuli, ratings and captions on this page were made by a seeded simulation. Of the choices, "
        f"{listed(asked)}.{others} Results about these stimuli do not hold for real ones.",
        "synthetic stimuli",
    )
