"""Steps of agents with a server: from stored answers to choices.

``affectlake collect AGENT`` collects the answers. The steps can be repeated without asking the agent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from affectlake.geometry.intervals import wilson_interval
from affectlake.judge.chat import ChatAgent
from affectlake.judge.responses.position_bias import flip_rate, position_shares
from affectlake.judge.responses.tables import IDENTITY, latest, read_choices
from affectlake.judge.trials.content import Materials, caption_materials, video_materials
from affectlake.judge.trials.plan import Trials, valid_answers
from affectlake.judge.trials.request_keys import KeyMaker
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.rows import null_nan
from affectlake.triplets import TRIPLET


def materials(tables: Tables, agent: ChatAgent, *, with_frames: bool = True) -> Materials:
    """Return what the agent can be shown, from the tables ``stimuli`` and ``captions`` or ``frames``.

    Parameters
    ----------
    tables : mapping of str to polars.LazyFrame
        The tables ``stimuli``, and ``captions`` or ``frames``.
    agent : ChatAgent
        The agent.
    with_frames : bool, default True
        Whether to load the frames in addition to their hashes.
    """
    stimuli = tables["stimuli"].collect()
    if agent.modality == "captions":
        return caption_materials(stimuli, tables["captions"].collect())
    columns = ["stimulus_index", "frame_index", "frame_sha256", *(["jpeg"] if with_frames else [])]
    return video_materials(stimuli, tables["frames"].select(columns).collect())


def trials_of(triplets: pl.LazyFrame, trial_set: str) -> Trials:
    """Return one trial set of the table ``triplets``."""
    rows = triplets.filter(pl.col("trial_set") == trial_set).select(*TRIPLET, "n_repeats").sort(TRIPLET).collect()
    packed = np.ascontiguousarray(rows.select(TRIPLET).to_numpy().astype(np.int32).reshape(-1, 3))
    return Trials(trial_set, packed, rows["n_repeats"].to_numpy().astype(np.int16))


def response_batches(responses: pl.LazyFrame, *columns: str) -> Iterator[pl.DataFrame]:
    """Yield the responses part by part, in the order in which they were added; one part is in memory at a time."""
    for shard in responses.select(pl.col("shard").unique().sort()).collect()["shard"]:
        yield responses.filter(pl.col("shard") == shard).select(columns or pl.all()).collect()


@step(
    reads=("stimuli", "captions", "frames", "triplets", "responses/{agent}"),
    writes=("choices/{agent}", "unparsed/{agent}", "order_effects/{agent}"),
    params=(
        "agents.{agent}.model",
        "agents.{agent}.revision",
        "agents.{agent}.protocol",
        "agents.{agent}.modality",
        "agents.{agent}.sampling",
    ),
    kinds=("chat",),
    version=3,
)
def choose_by_chat(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read the choice of each stored answer, or the reason why there is none."""
    agent = params.agents[context.agent]
    assert isinstance(agent, ChatAgent)
    names = tables["triplets"].select(pl.col("trial_set").unique().sort()).collect()["trial_set"].to_list()
    found, n_rows = read_responses(tables, agent, names, context.progress)
    choices = found.filter(pl.col("odd").is_not_null())
    unparsed = found.filter(pl.col("odd").is_null())
    context.log(
        f"{choices.height:,} choices, {unparsed.height:,} answers without a choice; of {n_rows:,} responses,"
        f" {n_rows - found.height:,} have another model, protocol, catalogue or plan, or were asked again"
    )
    who = (pl.lit(context.agent).alias("agent"), pl.lit(agent.protocol).alias("protocol"))
    return {
        "choices": choices.select(*who, *IDENTITY, "odd", tied=pl.lit(value=False)),
        "unparsed": unparsed.select(*who, *IDENTITY, "request_key", "unparsed_reason"),
        "order_effects": order_effects(choices).select(*who, pl.all()),
    }


def read_responses(
    tables: Tables, agent: ChatAgent, trial_sets: list[str], progress: Callable[[str], None]
) -> tuple[pl.DataFrame, int]:
    """Return the choice in the response to each trial, and the number of all responses.

    Parameters
    ----------
    tables : mapping
        ``responses`` of the agent, ``triplets``, ``stimuli``, and ``captions`` or ``frames``.
    agent : ChatAgent
        The agent. Responses to questions that it would not be asked now are ignored.
    trial_sets : list of str
        Trial sets to read.
    progress : callable
        Takes one line of progress.

    Returns
    -------
    found : polars.DataFrame
        One row per trial and repeat; ``odd`` is null if the response does not name a stimulus.
    n_rows : int
        Number of responses, including the ignored ones.
    """
    shown = materials(tables, agent, with_frames=False)
    makers = {name: KeyMaker(agent, name, shown) for name in trial_sets}
    pieces, n_rows = [], 0
    for batch in response_batches(tables["responses"]):
        n_rows += batch.height
        for name, maker in makers.items():
            rows = _wanted(valid_answers(batch, maker, name), tables["triplets"])
            read = read_choices(rows, agent.asking.reading)
            failed = rows.select(*IDENTITY, "error_kind", "request_key")
            read_rows = pl.concat([read.choices, read.unparsed], how="diagonal")
            pieces.append(failed.join(read_rows.drop("request_key"), on=IDENTITY, how="left", maintain_order="left"))
            progress(f"{n_rows:,} responses read")
    return latest(pl.concat(pieces)) if pieces else _nothing(), n_rows


def _nothing() -> pl.DataFrame:
    ints = dict.fromkeys(("i", "j", "k", "odd"), pl.Int32) | {"repeat": pl.Int16, "position": pl.Int8}
    texts = dict.fromkeys(("trial_set", "unparsed_reason", "error_kind"), pl.String)
    return pl.DataFrame(schema=ints | texts | {"order_code": pl.UInt8, "request_key": pl.Binary})


def _wanted(rows: pl.DataFrame, triplets: pl.LazyFrame) -> pl.DataFrame:
    """Return the rows whose trial and repeat are still in the study."""
    asked = triplets.select("trial_set", *TRIPLET, "n_repeats")
    joined = rows.lazy().join(asked, on=["trial_set", *TRIPLET], how="inner", maintain_order="left")
    return joined.filter(pl.col("repeat") < pl.col("n_repeats")).drop("n_repeats").collect()


def order_effects(choices: pl.DataFrame) -> pl.DataFrame:
    """Return, for each trial set, the shares of the positions, and how often answers change with the order."""
    rows: list[dict[str, object]] = []
    for (name,), some in choices.sort("trial_set").group_by("trial_set", maintain_order=True):
        shares = position_shares(some["position"].to_numpy())
        common: dict[str, object] = {"trial_set": name, "n": shares.n}
        for word, count in zip(("first", "second", "third"), shares.counts.tolist(), strict=True):
            low, high = map(float, wilson_interval(count, shares.n))
            share = {"value": count / shares.n, "ci_low": low, "ci_high": high, "chance": 1 / 3}
            rows.append(common | {"measure": f"chosen_{word}"} | share)
        rows.append(
            common | {"measure": "chi_square", "value": shares.chi_square, "p_value": shares.p_value, "chance": 2.0}
        )
        triplet = some.select(pl.struct(TRIPLET).rank("dense")).to_series().to_numpy().astype(np.int64)
        flips = flip_rate(triplet, some["odd"].to_numpy(), some["order_code"].to_numpy())
        for measure, value, n in (
            ("flip_rate_other_order", flips.other_order, flips.n_other),
            ("flip_rate_same_order", flips.same_order, flips.n_same),
        ):
            note = None if n else "no triplet was answered twice so"
            rows.append({"trial_set": name, "measure": measure, "value": value, "chance": 2 / 3, "n": n, "note": note})
    types: dict[str, type[pl.DataType]] = {"trial_set": pl.String, "measure": pl.String}
    types |= dict.fromkeys(("value", "ci_low", "ci_high", "chance", "p_value"), pl.Float64)
    frame = pl.DataFrame(rows, schema=types | {"n": pl.Int32, "note": pl.String})
    return null_nan(frame)
