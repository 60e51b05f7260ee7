"""What would be sent: the request of one trial by a protocol, as JSON. No server is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from affectlake.errors import UsageError, nearest
from affectlake.judge.chat import OWN_PROTOCOLS, ChatAgent
from affectlake.judge.protocols.builtin import BUILT_IN, FAMILIES, KINDS, built_in
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.protocols.wording import Wording
from affectlake.judge.sampling import Sampling
from affectlake.judge.trials.plan import make_plan
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import chat_agent, materials_of
from affectlake.pipelines.params.protocols import own_names, path_of, read_protocol
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.responses import trials_of
from affectlake.triplets import TRIPLET
from affectlake.validation import check

Triplet = tuple[int, int, int]

_DATA = re.compile(r"^data:[^,]*,")


def protocols_named(lake: Path, name: str) -> list[Protocol]:
    """Return the protocols for which a name stands: one, or those of a built-in family for captions and videos.

    Raises
    ------
    UsageError
        If there is no such protocol, or its file is not valid.
    """
    if name in BUILT_IN:
        return [built_in(name)]
    if name in FAMILIES:
        return [built_in(f"{name}/{kind}") for kind in KINDS.values()]
    own = own_names(lake)
    if name in own:
        return [read_protocol(lake / path_of(name)).protocol]
    known = [*FAMILIES, *own]
    todo = nearest(name, known) or f"write {path_of(name)}; `affectlake protocols copy BUILTIN {name}` starts one"
    raise UsageError(f"there is no protocol {name!r}", allowed=", ".join(known), todo=todo)


def agents_asked_by(params: Params, asking: Protocol) -> list[str]:
    """Return the agents that are asked by a protocol."""
    chats = [agent for agent in params.agents.values() if isinstance(agent, ChatAgent)]
    return [agent.name for agent in chats if agent.protocol == asking.full_name]


def request_of(lake: Path, params: Params, asking: Protocol, name: str, trial: Triplet | None) -> Mapping[str, Any]:
    """Return the body of the request that asks an agent one trial of the main set by a protocol.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    asking : Protocol
        The protocol, which need not be the agent's.
    name : str
        Name of the agent.
    trial : tuple of int or None
        Stimulus indices of the trial in any order; None: the first trial of the main set that can be asked.

    Raises
    ------
    UsageError
        If the agent does not exist or cannot be asked by this protocol, or the trial is not in the main set.
    """
    agent = asked_by(params, chat_agent(params, name), asking)
    shown = materials_of(lake, agent)
    rows = read_output(lake, Output("triplets")).filter(pl.col("trial_set") == "main").select(TRIPLET).sort(TRIPLET)
    if trial is not None:
        i, j, k = sorted(trial)
        rows = rows.filter(pl.col("i") == i, pl.col("j") == j, pl.col("k") == k)
    every = np.ascontiguousarray(rows.collect().to_numpy().astype(np.int32).reshape(-1, 3))
    every = every[(shown.n_options > 0)[every].all(axis=1)]
    if not len(every):
        raise UsageError(
            "there is no such trial to ask" if trial else "there is no trial to ask",
            found=", ".join(map(str, trial)) if trial else "",
            wanted="three stimulus indices of a trial of the main set whose stimuli all have content",
            todo="leave --trial out for the first one, or see the table `triplets`",
        )
    main = trials_of(read_output(lake, Output("triplets")), "main")
    plan = make_plan(agent, main, shown, params.seed, proposed=pl.DataFrame(every[:1], schema=TRIPLET, orient="row"))
    return next(plan.questions()).body


def asked_by(params: Params, agent: ChatAgent, asking: Protocol) -> ChatAgent:
    """Return an agent as if its entry named another protocol."""
    family = asking.name.partition("/")[0]
    entry = {**params.raw["agents"][agent.name], "protocol": family, "modality": asking.modality}
    context = {OWN_PROTOCOLS: {family: asking}}
    found: ChatAgent = check(ChatAgent, entry, within=f"agents.{agent.name}", context=context)
    return found.named(agent.name)


def request_without_agent(asking: Protocol) -> Mapping[str, Any]:
    """Return a request by a protocol with a placeholder for each stimulus and for the model."""
    wording = Wording(asking, "MODEL", Sampling(max_tokens=None, temperature=None, top_p=None))
    if asking.modality == "captions":
        return wording.of_captions([f"CAPTION {n}" for n in (1, 2, 3)], None)
    return wording.of_videos([(f"VIDEO-{n}", f"data:video/jpeg;base64,FRAMES-{n}") for n in (1, 2, 3)], None)


def shortened(value: Any) -> Any:
    """Return a request in which the data of images and videos are replaced by their length."""
    if isinstance(value, Mapping):
        return {key: shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in value]
    head = _DATA.match(value) if isinstance(value, str) else None
    return f"{head[0]}… ({len(value) - head.end():,} characters)" if head else value
