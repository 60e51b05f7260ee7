"""Import judgments that people gave: read files, compare them with what is stored, and publish what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.errors import SourceError, UsageError
from affectlake.judge.agents import ImportedAgent
from affectlake.judge.judgments.identity import request_keys, stimuli_checks
from affectlake.judge.judgments.layouts import read_raw
from affectlake.judge.judgments.options import LAYOUTS_OF, ReadingOptions
from affectlake.judge.judgments.resolving import SHOWN, Judgments, resolve
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.preflight import prepare
from affectlake.lake.store.versions import Version
from affectlake.lake.tables import appending
from affectlake.lake.tables.removing import without
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.publishing import publish_grown
from affectlake.pipelines.params.agent_kinds import agent_of_kind
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.stored import GROWING, as_responses, known_answers
from affectlake.tasks import Task
from affectlake.triplets import TRIPLET
from affectlake.user_tables.catalogue import Catalogue

PER_PART = 500_000
EXAMPLES = 5
MOST_ANSWERS = 32_767
_HEAD = 100
"""Number of first judgments by which a file is recognised that was imported under another name."""

GIVEN = ("given_odd", "given_winner")
"""Columns of ``responses`` with the answer of a person; one of them is null."""

Log = Callable[[str], None]


class FileAccount(NamedTuple):
    """What was read of one file.

    Attributes
    ----------
    file, layout : str
        Name of the file, and its layout.
    columns : dict of str to str
        Its columns by role.
    n_judgments, n_participants, n_stimuli, n_triplets : int
        Numbers of judgments with catch trials, named participants, and different stimuli and triplets.
    n_repeats : int
        Number of judgments of a triplet beyond the first.
    n_catch : int
        Number of catch trials.
    skipped : dict of str to int
        Numbers of rows that are not trials, or have no answer, by reason.
    bad : list of (int, str)
        Row and reason of each row that cannot be used.
    notes : list of str
        What was assumed, and what was done beyond plain reading.
    """

    file: str
    layout: str
    columns: dict[str, str]
    n_judgments: int
    n_participants: int
    n_stimuli: int
    n_triplets: int
    n_repeats: int
    n_catch: int
    skipped: dict[str, int]
    bad: list[tuple[int, str]]
    notes: list[str]


@dataclass(frozen=True)
class ReadFiles:
    """The judgments of all files as rows of ``responses`` without ``shard``, and what was read of each file.

    ``notes`` are about all files, and ``ids`` are those of the stimuli.
    """

    agent: ImportedAgent
    rows: pl.DataFrame
    files: list[FileAccount]
    notes: list[str]
    ids: list[str]

    @property
    def n_bad(self) -> int:
        """Number of rows that cannot be used."""
        return sum(len(one.bad) for one in self.files)


class Imported(NamedTuple):
    """Numbers of judgments that were added, and that were stored already, and the new version, if there is one."""

    n_added: int
    n_known: int
    version: Version | None


def imported_agent(params: Params, name: str) -> ImportedAgent:
    """Return the agent `name`, whose judgments are imported; raise :class:`UsageError` if there is no such agent."""
    todo = f"add `{name}: {{kind: judgments, l1: auto}}` under `agents:`"
    what, kinds = "an agent whose judgments are imported", "judgments, anchored or experiment"
    return agent_of_kind(params, name, ImportedAgent, what, kinds, todo)


def read_files(
    lake: Path, params: Params, name: str, files: Sequence[Path], options: ReadingOptions, *, skip_bad: bool = False
) -> ReadFiles:
    """Read files of judgments for an agent. Nothing is written.

    Parameters
    ----------
    lake : Path
        Root of the lake, whose stimuli must have been read.
    params : Params
        Its parameters.
    name : str
        Name of the agent.
    files : sequence of Path
        The files.
    options : ReadingOptions
        What the user says about them.
    skip_bad : bool
        Whether rows that cannot be used are left out, rather than refused.

    Raises
    ------
    UsageError
        If the agent does not exist or is of another kind.
    SourceError
        If a file cannot be read, or a row cannot be used.
    ContractError
        If the stimuli were not read yet.
    """
    agent = imported_agent(params, name)
    options = replace(options, task=agent.task)
    _check_layout(options)
    stimuli = read_output(lake, Output("stimuli")).sort("stimulus_index").select("stimulus_id").collect()
    catalogue = Catalogue(stimuli["stimulus_id"].to_list())
    found = [resolve(read_raw(path, options, catalogue), options, catalogue) for path in files]
    accounts = [_account(one) for one in found]
    bad = [(account.file, row, why) for account in accounts for row, why in account.bad]
    if bad and not skip_bad:
        shown = [f"{file}, row {row}: {why}" for file, row, why in bad[:EXAMPLES]]
        more = f"\n         and {len(bad) - EXAMPLES:,} more" if len(bad) > EXAMPLES else ""
        raise SourceError(
            f"{len(bad):,} judgment{'s' if len(bad) > 1 else ''} cannot be used; nothing was stored",
            found="\n         ".join(shown) + more,
            todo="correct the rows, or leave them out with --skip-bad",
        )
    _refuse_same_name(found)
    every = pl.concat([_rows_of(one, agent, catalogue.ids) for one in found])
    notes = catalogue.notes()
    every, n_gone = _without_forgotten(lake, agent, every)
    if n_gone:
        notes.append(
            f"{n_gone:,} judgments of forgotten participants are left out; "
            f"`affectlake forget {name} PARTICIPANT --allow-again` accepts those of one"
        )
    rows = every.unique("request_key", keep="first", maintain_order=True)
    if rows.height < every.height:
        compared = ["request_key", "stimuli_check", *GIVEN]
        both = every.select(*compared, "source_file", "source_row").join(
            rows.select(compared), on="request_key", how="inner", suffix="_stored", maintain_order="left"
        )
        _refuse_contradictions(both, "in several files")
        notes.append(f"{every.height - rows.height:,} judgments are in several of the files, and are used once")
    return ReadFiles(agent, rows, accounts, notes, catalogue.ids)


def _without_forgotten(lake: Path, agent: ImportedAgent, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    kept = without(lake, Output(GROWING, agent.name), rows)
    return kept, rows.height - kept.height


def import_files(lake: Path, read: ReadFiles, log: Log) -> Imported:
    """Store the judgments that are not stored yet, and publish them as one version.

    Raises
    ------
    SourceError
        If the answer to a stored judgment differs, or a file has the judgments of one that was imported under another
        name. Nothing is stored then.
    LakeError
        If the lake cannot be published.
    """
    name = read.agent.name
    with repository.writing(lake, f"affectlake import {name}", wait_s=float("inf"), say=log):
        prepare(lake, log)
        new = new_rows(lake, read)
        add_rows(lake, name, new, log)
        version = publish_grown(lake, log)
    return Imported(new.height, read.rows.height - new.height, version)


def add_rows(lake: Path, name: str, new: pl.DataFrame, log: Log) -> None:
    """Add judgments that are not stored yet, of :func:`new_rows`, to an agent's responses.

    The caller holds the writer lock.
    """
    output = Output(GROWING, name)
    for start in range(0, new.height, PER_PART):
        part = as_responses(new.slice(start, PER_PART))
        shard = appending.next_part(lake, output)
        appending.append(lake, output, part.with_columns(shard=pl.lit(shard, dtype=pl.Int32)), {})
        log(f"{name}: {min(start + PER_PART, new.height):,} of {new.height:,} judgments stored")


def new_rows(lake: Path, read: ReadFiles) -> pl.DataFrame:
    """Return the judgments that are not stored yet, numbered among the answers to their triplets.

    Raises
    ------
    SourceError
        As :func:`import_files` does.
    """
    known = known_answers(lake, read.agent.name)
    if known is None:
        return _numbered(read.rows, None)
    columns = [
        "request_key",
        *TRIPLET,
        *GIVEN,
        "repeat",
        "error_kind",
        "participant",
        "source_file",
        "source_row",
        "stimuli_check",
    ]
    stored = known.select(columns).collect()
    n_others = stored.filter(pl.col(_chosen(read.agent.task)).is_null(), pl.col("error_kind").is_null()).height
    if n_others:
        raise SourceError(
            f"{n_others:,} stored judgments of {read.agent.name} are not {read.agent.task} judgments",
            wanted="judgments of one kind under each agent; nothing was stored",
            todo="restore its kind in params.yaml, and import these files under another agent",
        )
    triplets = stored.select(TRIPLET).to_numpy()
    current = stored.filter(pl.Series(stimuli_checks(triplets, read.ids)) == pl.col("stimuli_check"))
    _refuse_renamed(read.rows, current)
    compared = ["request_key", "stimuli_check", *GIVEN]
    both = read.rows.select(*compared, "source_file", "source_row").join(
        current.select(compared), on="request_key", how="inner", suffix="_stored", maintain_order="left"
    )
    _refuse_contradictions(both, "stored")
    left = read.rows.join(both.select("request_key"), on="request_key", how="anti", maintain_order="left")
    return _numbered(left, stored)


def _numbered(rows: pl.DataFrame, stored: pl.DataFrame | None) -> pl.DataFrame:
    number = pl.int_range(pl.len(), dtype=pl.Int32).over(TRIPLET)
    if stored is None or stored.is_empty():
        found = rows.with_columns(number.alias("repeat"))
    else:
        last = stored.group_by(TRIPLET).agg(pl.col("repeat").max().cast(pl.Int32).alias("_last"))
        found = rows.join(last, on=TRIPLET, how="left", maintain_order="left")
        found = found.with_columns(repeat=number + pl.col("_last").fill_null(-1) + 1).drop("_last")
    most = found["repeat"].max()
    if isinstance(most, int) and most >= MOST_ANSWERS:
        raise SourceError(f"a triplet has {most + 1:,} answers", allowed=f"at most {MOST_ANSWERS:,}")
    return found.with_columns(pl.col("repeat").cast(pl.Int16))


def _refuse_contradictions(both: pl.DataFrame, where: str) -> None:
    """Refuse judgments that have one key and two answers."""
    differ = both.filter(
        (pl.col("stimuli_check") != pl.col("stimuli_check_stored"))
        | pl.any_horizontal(pl.col(one) != pl.col(f"{one}_stored") for one in GIVEN)
    )
    if differ.height:
        shown = [f"{file}, row {row}" for file, row in differ.select("source_file", "source_row").head(EXAMPLES).rows()]
        raise SourceError(
            f"{differ.height:,} judgments are {where} with another answer or other stimuli; nothing was stored",
            found="; ".join(shown) + (", …" if differ.height > EXAMPLES else ""),
            todo="correct the file, give it another name, or import it under another agent",
        )


def _refuse_renamed(rows: pl.DataFrame, stored: pl.DataFrame) -> None:
    """Refuse a file without participants whose first judgments are those of a stored file with another name."""
    new, old = (_heads(frame) for frame in (rows, stored))
    for name, head in new.items():
        for other, known in old.items():
            n = min(len(head), len(known))
            if name != other and name not in old and n >= EXAMPLES and head[:n] == known[:n]:
                raise SourceError(
                    f"{name} begins with the judgments of {other}, which is imported already",
                    wanted="a file under the name with which it was imported first, or a file with other judgments",
                    todo=f"rename it to {other}, so that only its new judgments are added",
                )


def _heads(frame: pl.DataFrame) -> dict[str, list[tuple[int, ...]]]:
    some = frame.filter(pl.col("participant").is_null()).select(
        "source_file", "source_row", "stimuli_check", pl.coalesce(GIVEN)
    )
    first = some.filter(pl.col("source_row").rank("ordinal").over("source_file") <= _HEAD).sort("source_row")
    heads: dict[str, list[tuple[int, ...]]] = {}
    for file, *row in first.iter_rows():
        heads.setdefault(str(file), []).append(tuple(row))
    return heads


def _refuse_same_name(found: Sequence[Judgments]) -> None:
    nameless = Counter(one.raw.file for one in found if one.frame["participant"].null_count())
    for file, n in nameless.items():
        if n > 1:
            raise SourceError(
                f"{n} files are called {file}, and their rows do not name the participant",
                wanted="a name of its own for each file, by which its judgments are recognised later",
                todo="rename the files, or name the column with --column participant=NAME",
            )


def _rows_of(found: Judgments, agent: ImportedAgent, ids: list[str]) -> pl.DataFrame:
    frame = found.frame.with_columns(source_file=pl.lit(found.raw.file))
    return as_rows(frame, agent, ids, order_known=found.raw.order_known)


def as_rows(frame: pl.DataFrame, agent: ImportedAgent, ids: list[str], *, order_known: bool) -> pl.DataFrame:
    """Return judgments as rows of ``responses``, without ``shard`` and with ``repeat`` 0.

    Parameters
    ----------
    frame : polars.DataFrame
        As :class:`affectlake.judge.judgments.resolving.Judgments` has it, with ``source_file``. ``chosen`` may be null.
    agent : ImportedAgent
        Whose judgments they are.
    ids : list of str
        Id of each stimulus.
    order_known : bool
        Whether the order shown is known.
    """
    shown = frame.select(SHOWN).to_numpy()
    triplets = np.sort(shown, axis=1).astype(np.int32)
    keys = request_keys(frame, ids)
    order = [pl.col(one) if order_known else pl.lit(None, dtype=pl.Int32).alias(one) for one in SHOWN]
    return frame.select(
        pl.lit(agent.name).alias("agent"),
        keys,
        pl.lit(agent.protocol).alias("protocol"),
        pl.lit("main").alias("trial_set"),
        *(pl.Series(name, triplets[:, at]) for at, name in enumerate(TRIPLET)),
        pl.lit(0, dtype=pl.Int16).alias("repeat"),
        *order,
        "answer", "participant", "session", "trial", "asked_at", "response_ms",
        *_given(agent.task), "is_catch", "right_answer",
        "source_file", "source_row",
        pl.Series("stimuli_check", stimuli_checks(triplets, ids)),
    )  # fmt: skip


def _chosen(task: Task) -> str:
    """Return the column of the answers of a task."""
    return GIVEN[task == "anchored"]


def _given(task: Task) -> list[pl.Expr]:
    """Return the columns of the head, the odd one and the winner; those of the other task are null."""
    of_task = {
        "odd-one-out": {"given_odd": pl.col("chosen")},
        "anchored": {"head": pl.col("shown_1"), "given_winner": pl.col("chosen")},
    }[task]
    nothing = pl.lit(None, dtype=pl.Int32)
    return [of_task.get(name, nothing).alias(name) for name in ("head", *GIVEN)]


def _check_layout(options: ReadingOptions) -> None:
    allowed = LAYOUTS_OF[options.task]
    if options.layout is not None and options.layout not in allowed:
        raise UsageError(
            f"files in the layout {options.layout} have no {options.task} judgments",
            allowed=", ".join(allowed),
            todo="name one of these layouts, or an agent of the other kind (judgments, anchored)",
        )


def _account(found: Judgments) -> FileAccount:
    frame, raw = found.frame, found.raw
    shown = np.sort(frame.select(SHOWN).to_numpy(), axis=1)
    n_triplets = pl.DataFrame(shown, schema=TRIPLET, orient="row").n_unique() if len(shown) else 0
    return FileAccount(
        file=raw.file,
        layout=raw.layout,
        columns=raw.columns,
        n_judgments=frame.height,
        n_participants=frame["participant"].drop_nulls().n_unique(),
        n_stimuli=len(np.unique(shown)),
        n_triplets=n_triplets,
        n_repeats=frame.height - n_triplets,
        n_catch=int(frame["is_catch"].sum()),
        skipped=raw.skipped,
        bad=list(found.bad.iter_rows()),
        notes=found.notes,
    )
