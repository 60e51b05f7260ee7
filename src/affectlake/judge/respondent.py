"""Base class of all kinds of agents, which are in :mod:`affectlake.judge.agents`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from affectlake.tasks import Task
from affectlake.validation import Entry

L1 = Annotated[float, Field(ge=0)] | Literal["auto"]


class Respondent(Entry):
    """An agent that answers triplets, and the sparsity of the embedding of its answers.

    Attributes
    ----------
    name : str
        Its key under ``agents``.
    kind : str
        Its kind.
    task : {'odd-one-out', 'anchored'}
        What its answers are.
    protocol : str
        Name and version of the rule by which it answers, as stored in tables.
    needs_server : bool
        Whether servers are asked for its answers.
    collected_by : str
        The command that stores its answers in `responses`, before anything can be computed from them; empty if steps
        compute its answers.
    own_triplets : bool
        Whether its triplets are those that it answered, in the table `trials`, rather than those that the study draws.
    is_human : bool
        Whether it represents people, so that models are compared with it.
    learns_probabilities : bool
        Whether its embedding learns from the probabilities of its choices, in the table `soft_choices`.
    modality : {'captions', 'videos', 'clips'} or None
        What it is shown of a stimulus; None if it is not shown stimuli.
    """

    task: ClassVar[Task] = "odd-one-out"
    needs_server: ClassVar[bool] = False
    collected_by: ClassVar[str] = ""
    own_triplets: ClassVar[bool] = False
    is_human: ClassVar[bool] = False

    l1: L1 = Field(
        description="Sparsity λ of its SPoSE fit, such as 0.004; auto: chosen with held-out judgments (spose.few)."
    )

    @property
    def learns_probabilities(self) -> bool:
        """Whether its embedding learns from the probabilities of its choices, rather than from the choices."""
        return False

    @property
    def is_collected(self) -> bool:
        """Whether its answers are stored in `responses` by a command, rather than computed by a step."""
        return bool(self.collected_by)
