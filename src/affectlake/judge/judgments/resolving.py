"""From judgments as text to stimuli of the catalogue; a row that cannot be used has the reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from affectlake.errors import SourceError
from affectlake.judge.judgments.answers import positions_of
from affectlake.judge.judgments.options import STIMULI, Layout, ReadingOptions, Unit
from affectlake.judge.judgments.raw import RawJudgments
from affectlake.tasks import Task
from affectlake.user_tables.catalogue import Catalogue

SHOWN = ("shown_1", "shown_2", "shown_3")
TEXTS = ("participant", "session", "trial")
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none")
_YES, _NO = ("1", "true", "yes", "y", "t", "1.0"), ("0", "false", "no", "n", "f", "0.0", "")
_TIMES = ("%Y-%m-%d_%Hh%M.%S%.f", "%Y_%b_%d_%H%M", "%Y-%m-%dT%H:%M:%S%.f",
          "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")  # fmt: skip
_IN_SECONDS: tuple[Layout, ...] = ("psychopy", "salmon")
_IN_MILLISECONDS: tuple[Layout, ...] = ("jspsych", "triplettools")
SECONDS_BELOW, MILLISECONDS_ABOVE = 60.0, 150.0
"""If the median of response times is below the former, they are seconds, above the latter milliseconds."""


@dataclass(frozen=True)
class Judgments:
    """The judgments of a file.

    Parameters
    ----------
    raw : RawJudgments
        The judgments as text.
    frame : polars.DataFrame
        One row per usable judgment: ``source_row``, ``shown_1`` to ``shown_3``, ``chosen`` (the odd one, or the
        winner) and ``right_answer`` (int32 indices of stimuli), ``answer``, ``participant``, ``session``, ``trial``,
        ``asked_at`` (texts), ``response_ms`` and ``is_catch``. ``shown_1`` of an anchored triplet is its head. Where
        the order shown is not known (`RawJudgments.order_known`), the order is that of the file or, of anchored
        triplets, that of the catalogue.
    bad : polars.DataFrame
        ``source_row`` and ``reason`` of the rows that cannot be used.
    notes : list of str
        What was assumed, and what was done beyond plain reading.
    """

    raw: RawJudgments
    frame: pl.DataFrame
    bad: pl.DataFrame
    notes: list[str] = field(default_factory=list)


def resolve(raw: RawJudgments, options: ReadingOptions, catalogue: Catalogue) -> Judgments:
    """Find the stimuli of judgments, and check each row.

    Raises
    ------
    SourceError
        If it is ambiguous whether the odd one is named by id or by position, or what the unit of response times is.
    """
    notes = list(raw.notes)
    if raw.layout == "things":
        rows = _by_index(raw.frame, len(catalogue))
    else:
        rows = _by_name(raw, options, catalogue, notes)
        rows = _details(rows, raw, options, notes)
    rows = _checked(rows, raw.task)
    if raw.task == "anchored" and not raw.order_known:
        rows = rows.with_columns(
            pl.min_horizontal(SHOWN[1:]).alias(SHOWN[1]), pl.max_horizontal(SHOWN[1:]).alias(SHOWN[2])
        )
    bad = rows.filter(pl.col("reason").is_not_null()).select(source_row="row", reason="reason")
    good = rows.filter(pl.col("reason").is_null()).drop("reason").rename({"row": "source_row"})
    return Judgments(raw, good, bad, notes)


def _checked(rows: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Replace ``fault`` by ``reason``, and add the right answers to catch trials that show a stimulus twice.

    In such a trial the odd one is the third stimulus; of an anchored triplet, the stimulus that is the head wins.
    """
    first, second, third = (pl.col(one) for one in SHOWN)
    catch = pl.col("is_catch")
    offered = SHOWN if task == "odd-one-out" else SHOWN[1:]
    if task == "odd-one-out":
        hopeless, what = (first == second) & (second == third), "the three stimuli are the same"
        not_among = "the odd one is not in the triplet"
        pairs = ((first == second, third), (first == third, second), (second == third, first))
        right = pl.coalesce(pl.when(equal).then(other) for equal, other in pairs)
    else:
        hopeless, what = second == third, "the two stimuli beside the head are the same"
        not_among = "the winner is not one of the two stimuli beside the head"
        right = pl.coalesce(pl.when((first == second) | (first == third)).then(first))
    twice = (first == second) | (first == third) | (second == third)
    reason = pl.coalesce(
        pl.col("fault"),
        pl.when(twice & ~catch).then(pl.lit("a stimulus is in the triplet twice")),
        pl.when(hopeless).then(pl.lit(what)),
        pl.when(~pl.any_horizontal(pl.col("chosen") == pl.col(one) for one in offered))
        .then(pl.lit(not_among)),
    )  # fmt: skip
    right = pl.when(catch & pl.col("right_answer").is_null()).then(right).otherwise("right_answer")
    return rows.with_columns(reason=reason, right_answer=right).drop("fault")


def _by_index(frame: pl.DataFrame, n_stimuli: int) -> pl.DataFrame:
    texts = pl.col(STIMULI).name.prefix("text_")
    numbers = frame.with_columns(texts).with_columns(pl.col(STIMULI).cast(pl.Int64, strict=False).fill_null(2**62))
    outside = [
        pl.when(pl.col(one) >= n_stimuli).then(
            pl.format("index {} is not in the catalogue, whose last one is {}", f"text_{one}", pl.lit(n_stimuli - 1))
        )
        for one in STIMULI
    ]
    inside = [
        pl.when(pl.col(one) < n_stimuli).then(pl.col(one)).otherwise(0).cast(pl.Int32).alias(shown)
        for one, shown in zip(STIMULI, SHOWN, strict=True)
    ]
    nothing = [pl.lit(None, dtype=pl.String).alias(name) for name in (*TEXTS, "asked_at")]
    return numbers.select(
        "row",
        *inside,
        inside[2].alias("chosen"),
        pl.col("text_stimulus_3").alias("answer"),
        *nothing,
        response_ms=pl.lit(None, dtype=pl.Float64),
        is_catch=pl.lit(value=False),
        right_answer=pl.lit(None, dtype=pl.Int32),
        fault=pl.coalesce(outside),
    )


def _by_name(raw: RawJudgments, options: ReadingOptions, catalogue: Catalogue, notes: list[str]) -> pl.DataFrame:
    frame = raw.frame
    names = pl.concat([frame[one] for one in STIMULI]).unique().drop_nulls()
    known = catalogue.indices(names.to_list())
    shown = [_indices(frame[one], known).alias(name) for one, name in zip(STIMULI, SHOWN, strict=True)]
    roles = STIMULI
    if raw.task == "anchored":
        roles = ("head", "left", "right") if raw.order_known else ("head", "winner", "loser")
    absent = [
        pl.when(pl.col(one).is_null()).then(pl.lit(f"{role} is empty"))
        .when(pl.col(name).is_null()).then(pl.format("the stimulus {} is not in the catalogue", pl.col(one)))
        for role, one, name in zip(roles, STIMULI, SHOWN, strict=True)
    ]  # fmt: skip
    rows = frame.with_columns(shown).with_columns(fault=pl.coalesce(absent))
    answered = positions_of(rows, raw, options, catalogue)
    notes += answered.notes
    placed = [pl.when(answered.position == at).then(pl.col(name)) for at, name in enumerate(SHOWN, 1)]
    unread = pl.when(pl.Series(answered.position).is_null()).then(
        pl.format(answered.wrong, pl.col("chosen").str.slice(0, 60))
    )
    other = pl.lit(None, dtype=pl.String)
    if "loser" in rows.columns and raw.order_known:
        loser = _indices(frame["loser"], catalogue.indices(frame["loser"].unique().drop_nulls().to_list()))
        left = pl.coalesce(pl.when(answered.position == at).then(pl.col(SHOWN[4 - at])) for at in (2, 3))
        other = pl.when((loser != left).fill_null(value=True)).then(
            pl.format("the loser {} is not the other stimulus", pl.col("loser").fill_null("(empty)").str.slice(0, 60))
        )
    rows = rows.with_columns(answer=pl.col("chosen"), fault=pl.coalesce("fault", unread, other))
    return rows.with_columns(chosen=pl.coalesce(placed))


def _indices(texts: pl.Series, known: dict[str, int]) -> pl.Series:
    return texts.replace_strict(known, default=None, return_dtype=pl.Int32)


def _details(rows: pl.DataFrame, raw: RawJudgments, options: ReadingOptions, notes: list[str]) -> pl.DataFrame:
    """Add participant, session, trial, time, response time and catch trials."""
    found = [_text(rows, name).alias(name) for name in TEXTS]
    found.append(_time(_text(rows, "time")).alias("asked_at"))
    times, fault = _response_ms(rows, raw, options, notes)
    is_catch, right, no_right = _catch(rows, raw.task)
    faults = [pl.col("fault"), fault, no_right]
    return rows.select(
        "row", *SHOWN, "chosen", "answer", *found, times.alias("response_ms"), is_catch.alias("is_catch"),
        right.alias("right_answer"), pl.coalesce(faults).alias("fault"),
    )  # fmt: skip


def _text(rows: pl.DataFrame, role: str) -> pl.Series:
    if role not in rows.columns:
        return pl.Series(role, [None] * rows.height, dtype=pl.String)
    stripped = rows[role].str.strip_chars().str.normalize("NFC")
    return rows.select(pl.when(~stripped.is_in(MISSING)).then(stripped)).to_series()


def _time(texts: pl.Series) -> pl.Series:
    """Return times in ISO 8601, and those that cannot be read as they are."""
    if texts.null_count() == len(texts):
        return texts
    offset = texts.str.contains(r"T.*(Z|[+-]\d\d:?\d\d)$").fill_null(value=False)
    read = [texts.str.to_datetime(form, strict=False, time_unit="ms") for form in _TIMES]
    iso = pl.coalesce([pl.lit(one) for one in read]).dt.strftime("%Y-%m-%dT%H:%M:%S%.3f")
    return pl.select(pl.when(pl.lit(offset)).then(pl.lit(texts)).otherwise(pl.coalesce(iso, pl.lit(texts)))).to_series()


def _response_ms(
    rows: pl.DataFrame, raw: RawJudgments, options: ReadingOptions, notes: list[str]
) -> tuple[pl.Series, pl.Expr]:
    nothing = pl.lit(None, dtype=pl.String)
    if "response_time" not in rows.columns:
        return pl.Series("response_ms", [None] * rows.height, dtype=pl.Float64), nothing
    texts = _text(rows, "response_time").str.strip_chars("[]")  # PsychoPy's lists of one click
    decimal = texts.str.contains(r"^\d+,\d+$").all()
    values = (texts.str.replace(",", ".", literal=True) if decimal else texts).cast(pl.Float64, strict=False)
    wrong = pl.lit(texts.is_not_null() & (values.is_null() | (values < 0) | ~values.is_finite()).fill_null(value=True))
    fault = pl.when(wrong).then(pl.format("the response time {} is not a number of seconds or ms", pl.lit(texts)))
    unit = options.unit or _unit(raw, values.drop_nulls())
    if unit is None:
        return pl.Series("response_ms", [None] * rows.height, dtype=pl.Float64), fault
    if not options.unit:
        notes.append(f"response times ({raw.columns['response_time']}) are taken to be in {unit}")
    scaled = values * (1000.0 if unit == "s" else 1.0)
    return pl.select(pl.when(pl.lit(scaled) >= 0).then(pl.lit(scaled))).to_series(), fault


def _unit(raw: RawJudgments, values: pl.Series) -> Unit | None:
    name = raw.columns["response_time"].lower()
    if values.is_empty():
        return None
    if raw.layout in _IN_SECONDS or name.endswith(("_s", "_sec", "_seconds", "(s)")):
        return "s"
    if raw.layout in _IN_MILLISECONDS or name.endswith(("_ms", "(ms)", "rtms", "timems", "latencyms")):
        return "ms"
    median = values.median()
    assert isinstance(median, float)
    if median < SECONDS_BELOW or median > MILLISECONDS_ABOVE:
        return "s" if median < SECONDS_BELOW else "ms"
    raise SourceError(
        f"the unit of the response times in {raw.file} is ambiguous",
        wanted=f"a median below {SECONDS_BELOW:g} (seconds) or above {MILLISECONDS_ABOVE:g} (milliseconds)",
        found=f"a median of {median:g} in column {raw.columns['response_time']!r}",
        todo="name it with --unit s or --unit ms",
    )


def _catch(rows: pl.DataFrame, task: Task) -> tuple[pl.Series, pl.Series, pl.Expr]:
    """Return which rows are catch trials, their right answers, and faults."""
    right_texts = _text(rows, "right_answer")
    right = _right(rows, right_texts, task)
    if "catch" in rows.columns:
        words = _text(rows, "catch").str.to_lowercase().fill_null("")
        is_catch, unknown = words.is_in(_YES), ~words.is_in([*_YES, *_NO])
        fault: pl.Expr = pl.when(pl.lit(unknown)).then(
            pl.format("{} does not say whether it is a catch trial", pl.lit(words))
        )
    else:
        is_catch = right_texts.is_not_null()
        fault = pl.lit(None, dtype=pl.String)
    unread = is_catch & right_texts.is_not_null() & right.is_null()
    wrong = pl.when(pl.lit(unread)).then(pl.format("the right answer {} is not in the triplet", pl.lit(right_texts)))
    kept = pl.select(pl.when(pl.lit(is_catch)).then(pl.lit(right))).to_series()
    return is_catch, kept, pl.coalesce(fault, wrong)


def _right(rows: pl.DataFrame, texts: pl.Series, task: Task) -> pl.Series:
    if texts.null_count() == len(texts):
        return pl.Series("right_answer", [None] * len(texts), dtype=pl.Int32)
    names = _PLACES[task]
    by_position = texts.drop_nulls().is_in(list(names)).all()
    places = texts.replace_strict(names, default=None, return_dtype=pl.Int8) if by_position else None
    if places is not None:
        chosen = [pl.when(pl.lit(places) == at).then(pl.col(name)) for at, name in enumerate(SHOWN, 1)]
        return rows.select(pl.coalesce(chosen)).to_series()
    equal = [
        pl.when(pl.lit(texts) == pl.col(one).str.strip_chars().str.normalize("NFC")).then(pl.col(name))
        for one, name in zip(STIMULI, SHOWN, strict=True)
    ]
    return rows.select(pl.coalesce(equal)).to_series()


_PLACES: dict[Task, dict[str, int]] = {
    "odd-one-out": {"1": 1, "2": 2, "3": 3},
    "anchored": {"1": 2, "2": 3, "left": 2, "right": 3},
}
