"""Steps of agents with a server: from stored answers to choices.

``affectlake collect AGENT`` collects the answers. The steps can be repeated without asking the agent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.intervals import wilson_interval
from affectlake.judge.chat import ChatAgent
from affectlake.judge.responses.combining import Chosen, by_log_probability, by_majority, calibrated, position_bias
from affectlake.judge.responses.position_bias import flip_rate, position_shares
from affectlake.judge.responses.tables import CHANCES, IDENTITY, latest, read_rows
from affectlake.judge.trials.caption_draw import draw_uniform
from affectlake.judge.trials.content import Materials, caption_materials, video_materials
from affectlake.judge.trials.plan import Trials, valid_answers
from affectlake.judge.trials.request_keys import KeyMaker
from affectlake.pipelines.params.protocols import path_of
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.rows import null_nan
from affectlake.seeds import generator
from affectlake.triplets import TRIPLET

HAS_CHANCES = pl.all_horizontal(pl.col(CHANCES).is_not_null())
"""Whether the probabilities of the positions in an answer are known."""


ADDED_ANSWER_PARAMS = ("agents.{agent}.orders", "agents.{agent}.calibrate")
"""Those of `ANSWER_PARAMS` that were added later (the `optional` ones of a step)."""

ANSWER_PARAMS = (
    *(f"agents.{{agent}}.{key}" for key in ("model", "revision", "protocol", "modality", "sampling")),
    *ADDED_ANSWER_PARAMS,
)
"""The parameters on which the choices of a chat agent depend, for steps that read its answers."""


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


def protocol_file(params: Params, _lake: Path | None, agent: str) -> list[str]:
    """Return the path of the file of an agent's protocol within the lake; an empty list for a built-in one."""
    asked = params.agents[agent]
    assert isinstance(asked, ChatAgent)
    path = path_of(asked.family)
    return [str(path)] if path in params.protocol_files else []


@step(
    reads=("stimuli", "captions", "frames", "triplets", "responses/{agent}"),
    writes=("choices/{agent}", "unparsed/{agent}", "order_effects/{agent}"),
    params=ANSWER_PARAMS,
    optional=ADDED_ANSWER_PARAMS,
    kinds=("chat",),
    found_files=protocol_file,
    version=6,
)
def choose_by_chat(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read the choice of each stored answer, or the reason why there is none."""
    agent = params.agents[context.agent]
    assert isinstance(agent, ChatAgent)
    names = tables["triplets"].select(pl.col("trial_set").unique().sort()).collect()["trial_set"].to_list()
    found, n_rows = read_responses(tables, agent, names, context.progress)
    choices = choices_of(found, agent)
    parsed = found.filter(pl.col("odd").is_not_null())
    unparsed = pl.concat([found.filter(pl.col("odd").is_null()), choices.unusable], how="diagonal")
    kept = f" from sets of {agent.orders} orders" if agent.orders > 1 else ""
    left_out = f"; {choices.n_incomplete:,} sets of orders are incomplete" if choices.n_incomplete else ""
    context.log(
        f"{choices.table.height:,} choices{kept}, {unparsed.height:,} answers without a choice; of {n_rows:,}"
        f" responses, {n_rows - found.height:,} have another model, protocol, catalogue or plan, or were asked again"
        f"{left_out}"
    )
    name, protocol = pl.lit(context.agent).alias("agent"), pl.lit(agent.protocol).alias("protocol")
    combined = pl.lit(agent.choice_protocol).alias("protocol")
    return {
        "choices": choices.table.select(name, combined, *IDENTITY, "odd", "tied"),
        "unparsed": unparsed.select(name, protocol, *IDENTITY, "request_key", "unparsed_reason"),
        "order_effects": order_effects(parsed).select(name, protocol, pl.all()),
    }


class CombinedChoices(NamedTuple):
    """The choices of an agent.

    Attributes
    ----------
    table : polars.DataFrame
        ``trial_set, i, j, k, repeat, odd, tied``: one row for each trial and repeat with a choice.
    unusable : polars.DataFrame
        The rows of answers that give a position but cannot be used, with the reason in ``unparsed_reason``.
    n_incomplete : int
        Number of trials and repeats of which some orders have no answer.
    """

    table: pl.DataFrame
    unusable: pl.DataFrame
    n_incomplete: int


def choices_of(found: pl.DataFrame, agent: ChatAgent) -> CombinedChoices:
    """Return the choice of each trial and repeat, combined over orders or calibrated as set in the agent's entry.

    Parameters
    ----------
    found : polars.DataFrame
        The answers, from :func:`read_responses`.
    agent : ChatAgent
        The agent.
    """
    if agent.orders > 1:
        return _over_orders(found, agent)
    parsed = found.filter(pl.col("odd").is_not_null())
    if agent.calibrate == "positions":
        return _calibrated(parsed, agent)
    return CombinedChoices(parsed.select(*IDENTITY, "odd", tied=pl.lit(value=False)), parsed.clear(), 0)


def _over_orders(found: pl.DataFrame, agent: ChatAgent) -> CombinedChoices:
    """Combine complete sets of orders, of which every order has an answer."""
    sets = complete_sets(found, agent)
    uniform = _uniform_of(sets.rows, agent)
    chosen = by_majority(sets.positions, sets.order_code, uniform)
    if agent.asking.asks_one_token:
        known = sets.are_known
        weighed = by_log_probability(sets.chances[known], sets.order_code[known], uniform[known])
        chosen.member[known], chosen.tied[known] = weighed
    return CombinedChoices(_table(sets.rows, chosen), found.clear(), sets.n_incomplete)


class OrderSets(NamedTuple):
    """Complete sets of orders, in each of which every order has an answer.

    Attributes
    ----------
    rows : polars.DataFrame
        ``trial_set, i, j, k, repeat`` of each of n sets.
    order_code : uint8 (n, k)
        The orders.
    positions : int8 (n, k)
        The position that each answer gives; 0: none.
    chances : float64 (n, k, 3)
        Probabilities of the positions in each answer; NaN where they are not known.
    n_incomplete : int
        Number of trials and repeats without a complete set.
    """

    rows: pl.DataFrame
    order_code: NDArray[np.uint8]
    positions: NDArray[np.int8]
    chances: NDArray[np.float64]
    n_incomplete: int

    @property
    def are_known(self) -> NDArray[np.bool_]:
        """Whether the probabilities of all answers of a set are known (n,)."""
        return np.asarray(np.isfinite(self.chances).all(axis=(1, 2)))


def complete_sets(found: pl.DataFrame, agent: ChatAgent) -> OrderSets:
    """Return the complete sets of orders in the answers from :func:`read_responses`, one for each trial and repeat.

    If an agent with three orders has two complete sets, from having been asked in six, the set is used of which an
    answer came first.
    """
    cycle = pl.col("order_code").is_in([1, 2, 5]) if agent.orders == 3 else pl.lit(value=False)
    rows = found.with_row_index("_at").with_columns(_cycle=cycle, _is_answer=pl.col("error_kind").is_null())
    sets = [*IDENTITY, "_cycle"]
    complete = pl.col("_is_answer").sum() == agent.orders
    sizes = rows.group_by(sets).agg(_first=pl.col("_at").min(), _complete=complete)
    whole = sizes.filter("_complete").sort("_first").unique(IDENTITY, keep="first", maintain_order=True)
    n_incomplete = found.select(IDENTITY).n_unique() - whole.height
    used = rows.join(whole.select(*sets), on=sets, how="semi").sort(*IDENTITY, "order_code")
    shape = (whole.height, agent.orders)
    order_code = used["order_code"].to_numpy().reshape(shape)
    positions = used["position"].fill_null(0).to_numpy().astype(np.int8).reshape(shape)
    chances = used.select(CHANCES).to_numpy().astype(np.float64).reshape(*shape, 3)  # null becomes NaN
    rows = used.gather_every(agent.orders).select(IDENTITY)
    return OrderSets(rows, order_code, positions, chances, n_incomplete)


def _calibrated(parsed: pl.DataFrame, agent: ChatAgent) -> CombinedChoices:
    """Subtract the mean log-probability of each position, over the answers to the same trial set."""
    unusable = parsed.filter(~HAS_CHANCES).with_columns(unparsed_reason=pl.lit("no_log_probabilities"))
    tables = [parsed.clear().select(*IDENTITY, "odd", tied=pl.lit(value=False))]
    for _, rows in parsed.filter(HAS_CHANCES).group_by("trial_set", maintain_order=True):
        chances = rows.select(CHANCES).to_numpy()
        uniform = _uniform_of(rows, agent)
        chosen = calibrated(chances, rows["order_code"].to_numpy(), position_bias(chances), uniform)
        tables.append(_table(rows.select(IDENTITY), chosen))
    return CombinedChoices(pl.concat(tables), unusable, 0)


def _uniform_of(rows: pl.DataFrame, agent: ChatAgent) -> NDArray[np.float64]:
    """Return a uniform number for each row, which depends only on its trial and repeat and the agent's seed."""
    triplets = rows.select(TRIPLET).to_numpy().astype(np.int32).reshape(-1, 3)
    uniform = np.empty(rows.height)
    for name in rows["trial_set"].unique().to_list():
        own = (rows["trial_set"] == name).to_numpy()
        seed = int(generator(agent.sampling.seed or 0, "equal choices", agent.name, name).integers(2**63))
        uniform[own] = draw_uniform(triplets[own], rows["repeat"].to_numpy()[own], seed)
    return uniform


def _table(rows: pl.DataFrame, chosen: Chosen) -> pl.DataFrame:
    """Return the choices of trials, without those that have none."""
    member = pl.Series(chosen.member)
    odd = pl.coalesce(pl.when(member == at).then(name) for at, name in enumerate(TRIPLET, start=1))
    return rows.select(*IDENTITY, odd=odd, tied=pl.Series(chosen.tied)).filter(pl.col("odd").is_not_null())


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
        One row per trial, repeat and, if the agent is asked in several, order; ``odd`` is null if the response does
        not name a stimulus.
    n_rows : int
        Number of responses to these trial sets, including the ignored ones.
    """
    shown = materials(tables, agent, with_frames=False)
    makers = {name: KeyMaker(agent, name, shown) for name in trial_sets}
    pieces, n_rows = [], 0
    for batch in response_batches(tables["responses"]):
        n_rows += int(batch["trial_set"].is_in(trial_sets).sum())
        for name, maker in makers.items():
            rows = _wanted(valid_answers(batch, maker, name), tables["triplets"])
            pieces.append(read_rows(rows, agent.asking))
            progress(f"{n_rows:,} responses read")
    also = ["order_code"] if agent.orders > 1 else []
    return latest(pl.concat(pieces), *also) if pieces else _nothing(), n_rows


def _nothing() -> pl.DataFrame:
    ints = dict.fromkeys(("i", "j", "k", "odd"), pl.Int32) | {"repeat": pl.Int16, "position": pl.Int8}
    texts = dict.fromkeys(("trial_set", "unparsed_reason", "error_kind"), pl.String)
    chances = dict.fromkeys(CHANCES, pl.Float64)
    return pl.DataFrame(schema=ints | texts | chances | {"order_code": pl.UInt8, "request_key": pl.Binary})


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
