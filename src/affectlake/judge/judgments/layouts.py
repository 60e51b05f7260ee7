"""Read files of judgments in the layouts that people have, as text; which stimuli they name is found out later.

``things``: three indices of stimuli in a line, from 0, the odd one last. ``table``: one judgment in a row, with three
columns of stimuli and one of the odd one out. ``psychopy``: the wide CSV of PsychoPy, in which rows outside of loops
have no trial, and times are in seconds. ``jspsych``: the CSV or JSON of jsPsych, in which a list of stimuli is JSON, a
response is an index from 0, and times are in milliseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectlake.errors import SourceError
from affectlake.judge.judgments.anchored import is_anchored, read_anchored
from affectlake.judge.judgments.options import STIMULI, Layout, ReadingOptions
from affectlake.judge.judgments.raw import RawJudgments, with_answers
from affectlake.judge.judgments.roles import SAMPLED, names_stimuli, possible_trios, recognise
from affectlake.user_tables import RECORDS, UserFile, UserTable, read_table
from affectlake.user_tables.catalogue import Catalogue

_THREE_NUMBERS = re.compile(rb"[ \t]*\d+[ \t]+\d+[ \t]+\d+[ \t]*\r?(\n|$)")
_LISTS = ("stimuli", "triplet", "choices", "stimulus", "images", "items", "options")
_PREFERRED: dict[Layout, dict[str, Sequence[str]]] = {
    "things": {},
    "table": {},
    "psychopy": {"participant": ("participant",), "session": ("session",), "time": ("date",)},
    "jspsych": {"odd": ("response", "button_pressed"), "trial": ("trial_index",), "response_time": ("rt",)},
}
_ANSWERS_OF_PSYCHOPY = (".clicked_name", ".keys", ".response")


def read_raw(path: Path, options: ReadingOptions, catalogue: Catalogue) -> RawJudgments:
    """Read a file of judgments.

    Parameters
    ----------
    path : Path
        The file.
    options : ReadingOptions
        What the user says about it.
    catalogue : Catalogue
        The stimuli, by which columns with ids are recognised.

    Raises
    ------
    SourceError
        If the file cannot be read, or its layout or columns are not recognised.
    """
    file = UserFile(path, "file of judgments", "the argument FILE")
    if options.task == "anchored":
        return read_anchored(read_table(file), options, catalogue)
    if options.layout == "things" or (options.layout is None and _is_things(path)):
        return _things(file)
    table = read_table(file)
    if is_anchored(table.columns) and not options.columns:
        raise SourceError(
            f"the {file.name} has anchored triplets, which are not odd-one-out judgments",
            wanted="three stimuli and the odd one out in each row",
            found="columns of a head, two others, and the one that is more like the head",
            todo="import it as answers of an agent of kind anchored, or name the columns with --column",
        )
    layout = options.layout or _layout(table, path)
    return _by_columns(table, layout, options, catalogue)


def _is_things(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        first = opened.read(1 << 16).lstrip(b"\xef\xbb\xbf\r\n \t")
    return _THREE_NUMBERS.match(first) is not None


def _layout(table: UserTable, path: Path) -> Layout:
    if path.suffix.lower() in RECORDS or {"trial_type", "trial_index"} <= set(table.columns):
        return "jspsych"
    if "psychopyVersion" in table.columns or any(name.endswith(".thisN") for name in table.columns):
        return "psychopy"
    return "table"


def _things(file: UserFile) -> RawJudgments:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise SourceError(f"the {file.name} cannot be read", found=str(error), todo=file.another) from error
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    lines = pl.Series("line", [text]).str.replace_all("\r", "").str.split("\n").explode()
    frame = lines.str.strip_chars().to_frame().with_row_index("row", offset=1).filter(pl.col("line") != "")
    if frame.is_empty():
        raise SourceError(
            f"the {file.name} is empty", wanted="three indices of stimuli in each line", todo=file.another
        )
    parts = pl.col("line").str.extract_groups(r"^(\d+)\s+(\d+)\s+(\d+)$")
    split = frame.select(pl.col("row").cast(pl.Int32), parts.struct.rename_fields(list(STIMULI)).alias("parts"), "line")
    found = split.unnest("parts")
    bad = found.filter(pl.col("stimulus_1").is_null())
    if bad.height:
        raise SourceError(
            f"{bad.height:,} lines of the {file.name} are not three indices",
            wanted="three indices of stimuli in each line, from 0, separated by spaces, the odd one last",
            found=f"{bad['line'][0][:60]!r} in line {bad['row'][0]}",
            todo="correct the lines, or name another layout with --layout",
        )
    roles = {
        "stimulus_1": "first index",
        "stimulus_2": "second index",
        "stimulus_3": "third index",
        "odd": "third index",
    }
    return RawJudgments(file.path.name, "things", roles, found.select("row", *STIMULI), order_known=False)


def _by_columns(table: UserTable, layout: Layout, options: ReadingOptions, catalogue: Catalogue) -> RawJudgments:
    name, columns = table.file.path.name, table.columns
    preferred = dict(_PREFERRED[layout])
    if layout == "psychopy":
        found = [one for end in _ANSWERS_OF_PSYCHOPY for one in columns if one.endswith(end) and _has_cells(table, one)]
        counters = [one for one in columns if one.endswith(".thisN")]  # of nested loops, the one that counts furthest
        counters.sort(key=lambda one: -table.frame[one].n_unique())
        preferred |= {"odd": found[:1], "trial": counters}
        times = [f"{one.rpartition('.')[0]}{end}" for one in found[:1] for end in (".rt", ".time")]
        preferred |= {"response_time": [one for one in times if one in columns]}
    trios = [trio for trio in possible_trios(columns) if names_stimuli(table, trio, catalogue)]
    if layout == "jspsych" and not trios:
        preferred["stimuli"] = [one for one in _LISTS if one in columns and _lists_stimuli(table, one, catalogue)]
    roles = recognise(columns, options.columns, trios, preferred, f"the {table.file.name}")
    frame = table.require(list(dict.fromkeys(roles.values()))).select(
        table.rows.cast(pl.Int32).alias("row"),
        *(pl.col(column).alias("chosen" if role == "odd" else role) for role, column in roles.items()),
    )
    if "stimuli" in roles:
        frame = _unlisted(frame)
    some = pl.any_horizontal(pl.col(role).is_not_null() for role in STIMULI)
    trials = frame.filter(some)
    answered, skipped = with_answers(trials, frame.height)
    return RawJudgments(name, layout, roles, answered, skipped, list(table.notes))


def _has_cells(table: UserTable, column: str) -> bool:
    return table.frame[column].null_count() < table.frame.height


def _lists_stimuli(table: UserTable, column: str, catalogue: Catalogue) -> bool:
    """Return whether a column has a list of three stimuli of the catalogue."""
    lists = [found for cell in table.frame[column].drop_nulls().head(10 * SAMPLED) if (found := _three(cell))]
    return any(sum(catalogue.knows(one) for one in found) >= 2 for found in lists)


def _three(cell: str) -> list[str] | None:
    """Return the three members of a JSON list; None if the cell is not such a list."""
    if not cell.lstrip().startswith("["):
        return None
    try:
        found = json.loads(cell)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != 3:
        return None
    return [one if isinstance(one, str) else json.dumps(one) for one in found]


def _unlisted(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace the column with lists by three columns; rows without a list of three have none."""
    lists = [_three(cell) if cell is not None else None for cell in frame["stimuli"]]
    columns = [
        pl.Series(role, [None if one is None else one[at] for one in lists], dtype=pl.String)
        for at, role in enumerate(STIMULI)
    ]
    return frame.drop("stimuli").with_columns(columns)
