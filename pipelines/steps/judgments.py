"""The step of judgments that people gave: from stored judgments to choices, exclusions, and reliability."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.errors import SourceError
from affectlake.geometry.estimates import Estimate, left_out
from affectlake.geometry.participants import Agreements, participant_agreements, participant_consistency
from affectlake.judge.agents import Exclude, ImportedAgent
from affectlake.judge.judgments.identity import stimuli_checks
from affectlake.judge.trials.orders import order_codes
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.attention import attention
from affectlake.pipelines.steps.responses import order_effects
from affectlake.pipelines.steps.rows import Row, row, to_table
from affectlake.seeds import integer
from affectlake.tasks import ANSWERS, Task
from affectlake.triplets import TRIPLET, hashed_shares

SHOWN = ["shown_1", "shown_2", "shown_3"]
_READ = ("shard", "request_key", *TRIPLET, "repeat", *SHOWN, "participant", "session", "trial", "response_ms",
         "is_catch", "right_answer", "stimuli_check", "head", "error_kind", "source_file", "source_row")  # fmt: skip
_GIVEN: dict[Task, str] = {"odd-one-out": "given_odd", "anchored": "given_winner"}
_OFFERED: dict[Task, list[str]] = {"odd-one-out": SHOWN, "anchored": SHOWN[1:]}
_NAMELESS = "the judgments do not name the participants"
_OF_STUDY = ("seed", "triplets.test_fraction", "triplets.validation_fraction", "agents.{agent}.exclude")


class _Judged(NamedTuple):
    """The judgments of an agent: ``chosen`` is the odd one or the winner.

    ``rows`` are all of them, with the ``rule`` that excludes a judgment; ``used`` are those that are not excluded.
    """

    agent: ImportedAgent
    rows: pl.DataFrame
    used: pl.DataFrame
    people: pl.DataFrame
    attention: pl.DataFrame


@step(
    reads=("stimuli", "triplets", "responses/{agent}"),
    writes=(
        "choices/{agent}",
        "trials/{agent}",
        "excluded_judgments/{agent}",
        "participants/{agent}",
        "attention/{agent}",
        "reliability/{agent}",
        "order_effects/{agent}",
    ),
    params=_OF_STUDY,
    kinds=("judgments", "experiment"),
    version=2,
)
def choose_by_judgments(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Use the judgments of people that no rule excludes as choices, and measure how reliable the participants are."""
    found = _judged(tables, params, context)
    asked = _asked(found.agent)
    return {
        "choices": found.used.select(
            *asked, *TRIPLET, "repeat", pl.col("chosen").alias("odd"), tied=pl.lit(value=False)
        ),
        "order_effects": order_effects(_in_order(found.used)).select(*asked[:2], pl.all()),
        **_tables(found, tables, params),
    }


@step(
    reads=("stimuli", "triplets", "responses/{agent}"),
    writes=(
        "anchored_choices/{agent}",
        "choices/{agent}",
        "trials/{agent}",
        "excluded_judgments/{agent}",
        "participants/{agent}",
        "attention/{agent}",
        "reliability/{agent}",
    ),
    params=_OF_STUDY,
    kinds=("anchored",),
    version=2,
)
def choose_by_anchored(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Use the anchored triplets of people that no rule excludes; they have no odd one out, so `choices` has no rows."""
    found = _judged(tables, params, context)
    loser = pl.sum_horizontal(TRIPLET) - pl.col("head") - pl.col("winner")
    chosen = found.used.rename({"chosen": "winner"}).with_columns(loser=loser)
    return {
        "anchored_choices": chosen.select(*_asked(found.agent), *TRIPLET, "repeat", "head", "winner", "loser"),
        "choices": to_table("choices", []),
        **_tables(found, tables, params),
    }


def _judged(tables: Tables, params: Params, context: StepContext) -> _Judged:
    """Return the stored judgments of an agent, with the rules that exclude some."""
    agent = params.agents[context.agent]
    assert isinstance(agent, ImportedAgent)
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    every = tables["responses"].select(*_READ, pl.col(_GIVEN[agent.task]).alias("chosen")).collect()
    stored = every.filter(pl.col("error_kind").is_null()).drop("error_kind")
    if stored["chosen"].null_count():
        raise SourceError(
            f"{stored['chosen'].null_count():,} stored judgments of {agent.name} are not {agent.task} judgments",
            wanted=f"judgments that were imported while it had kind: {agent.kind}",
            todo="restore its kind in params.yaml, and import other judgments under another agent",
        )
    rows = _stored_once(stored, ids)
    rows = rows.with_columns(rule=_of_judgment(rows, agent.exclude))
    usual = _participants(rows, agent.exclude, _OFFERED[agent.task])
    splits = splits_of(rows.select(TRIPLET).unique(), tables["triplets"], params)
    placed = rows.join(splits, on=TRIPLET, how="left", maintain_order="left")
    noticed = attention(
        placed, usual, agent.exclude, _OFFERED[agent.task], agent.task, len(ids), params.seed, context.log
    )
    people = _with_inattentive(usual, noticed, agent.exclude)
    rows = rows.join(people.select("participant", "excluded_by"), on="participant", how="left", maintain_order="left")
    rows = rows.with_columns(rule=pl.coalesce("rule", "excluded_by")).drop("excluded_by")
    used = rows.filter(pl.col("rule").is_null()).sort(*TRIPLET, "repeat", "shard")
    used = used.with_columns(repeat=pl.int_range(pl.len(), dtype=pl.Int16).over(TRIPLET))
    _log(rows, used, people, agent.exclude, context)
    for reason, n in every.group_by("error_kind").len().drop_nulls("error_kind").sort("error_kind").iter_rows():
        context.log(f"{n:,} trials have no answer: {reason}")
    return _Judged(agent, rows, used, people, noticed)


def _asked(agent: ImportedAgent) -> tuple[pl.Expr, ...]:
    values = {"agent": agent.name, "protocol": agent.protocol, "trial_set": "main"}
    return tuple(pl.lit(value).alias(name) for name, value in values.items())


def _tables(found: _Judged, tables: Tables, params: Params) -> OutputTables:
    """Return the tables that do not depend on the task."""
    who = (pl.lit(found.agent.name).alias("agent"),)
    agreements, consistency, names = _agreements(found.used, found.agent.task)
    reliability = [{"agent": found.agent.name, **one} for one in _reliability(agreements, consistency)]
    return {
        "trials": _trials(found.used, tables["triplets"], params).select(*who, pl.all()),
        "excluded_judgments": found.rows.filter(pl.col("rule").is_not_null()).select(
            *who, "shard", "request_key", "participant", "rule"
        ),
        "participants": _described(found.people, found.used, agreements, names).select(*who, pl.all()),
        "attention": found.attention.select(*who, pl.all()),
        "reliability": to_table("reliability", reliability),
    }


def _stored_once(rows: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """Return each judgment once, with whether its indices are those of the stimuli that were judged: ``current``.

    A judgment has several rows if it was imported again after a change of the catalogue, or in two clones of a lake.
    """
    found = rows.with_columns(current=pl.Series(stimuli_checks(rows.select(TRIPLET).to_numpy(), ids)))
    found = found.with_columns(pl.col("current") == pl.col("stimuli_check"))
    if found["request_key"].is_duplicated().any():
        found = found.sort("current", descending=True, maintain_order=True)
        found = found.unique("request_key", keep="first", maintain_order=True)
    return found


def _of_judgment(rows: pl.DataFrame, exclude: Exclude) -> pl.Series:
    """Return the rule that excludes a judgment itself; null if none does."""
    taken = pl.col("response_ms")
    rules = [
        pl.when(~pl.col("current").fill_null(value=False)).then(pl.lit("catalogue_changed")),
        pl.when("is_catch").then(pl.lit("catch_trial")),
    ]
    if exclude.faster_than_ms is not None:
        rules.append(pl.when(taken < exclude.faster_than_ms).then(pl.lit("faster_than_ms")))
    if exclude.slower_than_ms is not None:
        rules.append(pl.when(taken > exclude.slower_than_ms).then(pl.lit("slower_than_ms")))
    return rows.select(pl.coalesce(rules)).to_series()


def _participants(rows: pl.DataFrame, exclude: Exclude, offered: list[str]) -> pl.DataFrame:
    """Return one row per named participant: what they answered, and the rule that excludes them."""
    catch = pl.col("is_catch")
    failed = catch & (pl.col("chosen") != pl.col("right_answer")).fill_null(value=False)
    checked = catch & pl.col("right_answer").is_not_null()
    positions = [(~catch & (pl.col("chosen") == pl.col(one))).sum().alias(one) for one in offered]
    known = rows.filter(pl.col("participant").is_not_null(), pl.col("rule").fill_null("") != "catalogue_changed")
    found = known.group_by("participant").agg(
        (~catch).sum().cast(pl.Int32).alias("n_given"),
        pl.col("rule").is_null().sum().alias("n_left"),
        catch.sum().cast(pl.Int32).alias("n_catch"),
        failed.sum().cast(pl.Int32).alias("n_catch_failed"),
        checked.sum().alias("n_checked"),
        pl.col("response_ms").filter(~catch).median().alias("median_response_ms"),
        *positions,
    )
    n_shown = pl.sum_horizontal(offered)
    share = pl.when(n_shown > 0).then(pl.max_horizontal(offered) / n_shown)
    found = found.with_columns(position_share=share).drop(offered)
    rules = [pl.lit(None, dtype=pl.String)]
    if exclude.failed_catch is not None:
        failed_share = pl.col("n_catch_failed") / pl.col("n_checked")
        rules.append(pl.when(pl.col("n_checked") > 0, failed_share > exclude.failed_catch).then(pl.lit("failed_catch")))
    if exclude.fewer_than is not None:
        rules.append(pl.when(pl.col("n_left") < exclude.fewer_than).then(pl.lit("fewer_than")))
    if exclude.same_position is not None:
        rules.append(pl.when(pl.col("position_share") > exclude.same_position).then(pl.lit("same_position")))
    return found.with_columns(excluded_by=pl.coalesce(rules)).drop("n_left", "n_checked").sort("participant")


def _with_inattentive(usual: pl.DataFrame, noticed: pl.DataFrame, exclude: Exclude) -> pl.DataFrame:
    """Return the participants with the rule that excludes them, also those by the numbers of ``attention``."""
    rules = [pl.col("excluded_by")]
    if exclude.fast_share is not None:
        rules.append(pl.when(pl.col("fast_share") > exclude.fast_share).then(pl.lit("fast_share")))
    if exclude.position_run is not None:
        rules.append(pl.when(pl.col("run_p") < exclude.position_run).then(pl.lit("position_run")))
    if exclude.inattentive is not None:
        wanted = exclude.inattentive
        unlike = (pl.col("random_p") > wanted.level) & (pl.col("random_power") >= wanted.power)
        rules.append(pl.when(unlike).then(pl.lit("inattentive")))
    columns = noticed.select("participant", "fast_share", "run_p", "random_p", "random_power")
    joined = usual.join(columns, on="participant", how="left", maintain_order="left")
    return joined.with_columns(excluded_by=pl.coalesce(rules)).select(usual.columns)


def _trials(used: pl.DataFrame, study: pl.LazyFrame, params: Params) -> pl.DataFrame:
    """Return the answered triplets, each with its split: that of the study's main set, or one by a hash."""
    asked = used.group_by(TRIPLET, maintain_order=True).agg(pl.len().cast(pl.Int16).alias("n_repeats"))
    found = asked.join(splits_of(asked, study, params), on=TRIPLET, how="left", maintain_order="left")
    return found.select(pl.lit("main").alias("trial_set"), *TRIPLET, "split", "n_repeats")


def splits_of(asked: pl.DataFrame, study: pl.LazyFrame, params: Params) -> pl.DataFrame:
    """Return different triplets, each with its split: that of the study's main set, or one by a hash."""
    main = study.filter(pl.col("trial_set") == "main").select(*TRIPLET, "split")
    found = asked.select(TRIPLET).lazy().join(main, on=TRIPLET, how="left", maintain_order="left").collect()
    wanted = params.triplets
    packed = found.select(TRIPLET).to_numpy().astype(np.int32)
    share = hashed_shares(packed, integer(params.seed, "judgments", "split"))
    by_hash = np.select(
        [share < wanted.test_fraction, share < wanted.test_fraction + wanted.validation_fraction],
        ["test", "validation"],
        "train",
    )
    split = pl.coalesce("split", pl.Series("hashed", by_hash, dtype=pl.String))
    return found.select(*TRIPLET, split.alias("split"))


def _in_order(used: pl.DataFrame) -> pl.DataFrame:
    """Return the choices whose order shown is known, with the position chosen and the order."""
    known = used.filter(pl.col("shown_1").is_not_null())
    position = pl.coalesce(
        pl.when(pl.col("chosen") == pl.col(one)).then(pl.lit(at, dtype=pl.Int8)) for at, one in enumerate(SHOWN, 1)
    )
    triplets, shown = (known.select(names).to_numpy().astype(np.int32).reshape(-1, 3) for names in (TRIPLET, SHOWN))
    codes = order_codes(triplets, shown) if len(triplets) else np.empty(0, np.uint8)
    return known.select(
        pl.lit("main").alias("trial_set"),
        *TRIPLET,
        pl.col("chosen").alias("odd"),
        position.alias("position"),
        pl.Series("order_code", codes, dtype=pl.UInt8),
    )


def _agreements(used: pl.DataFrame, task: Task) -> tuple[Agreements | None, Estimate, list[str]]:
    """Return agreements and consistency of the named participants, and their names; None if no participant is named.

    Anchored triplets of one head are compared.
    """
    asked = [*TRIPLET, "head"] if task == "anchored" else TRIPLET
    named = used.filter(pl.col("participant").is_not_null())
    names: list[str] = named["participant"].unique().sort().to_list()
    if not names:
        return None, left_out(_NAMELESS), []
    several = named.filter(pl.len().over(asked) > 1)
    smaller = sum(((pl.col(one) < pl.col("chosen")).cast(pl.Int64) for one in TRIPLET), pl.lit(0))
    place = smaller - (pl.col("head") < pl.col("chosen")).cast(pl.Int64) if task == "anchored" else smaller
    coded = several.select(
        question=pl.struct(asked).rank("dense").cast(pl.Int64),
        place=place,
        who=pl.col("participant").replace_strict(names, list(range(len(names))), return_dtype=pl.Int64),
    )
    question, answer, who = (coded[name].to_numpy().astype(np.int64) for name in coded.columns)
    given = (question, answer, who, len(names), ANSWERS[task])
    return participant_agreements(*given), participant_consistency(*given), names


def _reliability(found: Agreements | None, consistency: Estimate) -> list[Row]:
    nameless = left_out(_NAMELESS)
    measures = {
        "within_participants": found.within if found else nameless,
        "between_participants": found.between if found else nameless,
        "consistency": consistency,
    }
    rows = [row("", measure, estimate) for measure, estimate in measures.items()]
    return [{key: value for key, value in one.items() if key != "analysis"} for one in rows]


def _described(people: pl.DataFrame, used: pl.DataFrame, found: Agreements | None, names: list[str]) -> pl.DataFrame:
    """Return the rows of ``participants``."""
    counts = used.group_by("participant").agg(pl.len().cast(pl.Int32).alias("n_used"))
    of_pairs = ("own_pairs", "own_same", "other_pairs", "other_same")
    pairs = pl.DataFrame(
        {"participant": names, **{f"n_{name}": getattr(found, name) if found else [] for name in of_pairs}},
        schema={"participant": pl.String, **{f"n_{name}": pl.Int64 for name in of_pairs}},
    )
    joined = people.join(counts, on="participant", how="left").join(pairs, on="participant", how="left")
    filled = joined.with_columns(pl.col("n_used", "^n_(own|other)_(pairs|same)$").fill_null(0))

    def share(of: str) -> pl.Expr:
        return pl.when(pl.col(f"n_{of}_pairs") > 0).then(pl.col(f"n_{of}_same") / pl.col(f"n_{of}_pairs"))

    return filled.select(
        "participant", "n_given", "n_used", "n_catch", "n_catch_failed", "median_response_ms", "position_share",
        "excluded_by", "n_own_pairs", share("own").alias("own_agreement"),
        "n_other_pairs", share("other").alias("other_agreement"),
    )  # fmt: skip


def _log(rows: pl.DataFrame, used: pl.DataFrame, people: pl.DataFrame, exclude: Exclude, context: StepContext) -> None:
    context.log(f"{used.height:,} choices of {rows.height:,} judgments, {people.height:,} participants are named")
    for rule, n in rows.group_by("rule").len().drop_nulls("rule").sort("rule").iter_rows():
        what = {
            "catch_trial": "are catch trials",
            "catalogue_changed": "are of stimuli that are others since the catalogue changed: import their files again",
        }.get(rule, f"are left out by {rule}")
        context.log(f"{n:,} judgments {what}")
    timed = exclude.faster_than_ms is not None or exclude.slower_than_ms is not None
    if timed and rows.height and rows["response_ms"].null_count() == rows.height:
        context.log("no judgment has a response time: faster_than_ms and slower_than_ms leave out none")
