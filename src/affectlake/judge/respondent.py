"""What all kinds of agents have in common; the kinds themselves are in :mod:`affectlake.judge.agents`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from affectlake.validation import Entry

L1 = Annotated[float, Field(ge=0)] | Literal["auto"]


class Respondent(Entry):
    """An agent: who answers triplets, and how sparse the embedding of the answers is.

    Attributes
    ----------
    name : str
        Its key under ``agents``.
    kind : str
        Which agent it is.
    protocol : str
        Name and version of the rule by which it answers, as tables hold it.
    needs_server : bool
        Whether its answers are collected from servers, and stored, before anything can be computed from them.
    is_human : bool
        Whether it stands for people, so that models are compared with it.
    modality : {'captions', 'videos'} or None
        What it is shown of a stimulus; None: nothing.
    """

    needs_server: ClassVar[bool] = False
    is_human: ClassVar[bool] = False

    l1: L1 = Field(
        description="Sparsity λ of its SPoSE fit, such as 0.004; auto: what the held-out judgments choose (spose.few)."
    )
