"""Tables in files of the user: what is safe is read, what would be guessed is refused with its row."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.user_tables import Legal, UserFile, UserTable, ids_of, read_table, to_numbers

PLAIN = "id,name,score\n007,Élan,1.5\nb c,two,-2\n"


def read(folder: Path, content: bytes | str, name: str = "ratings.csv") -> UserTable:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(UserFile(path, "ratings file", "sources.ratings"))


def scores(table: UserTable, column: str = "score", *, missing: bool = False) -> list[float]:
    labels = table.require(["id"]).to_series()
    values, _ = to_numbers(table, table.require([column]), labels, Legal("score", -9, 9), missing=missing)
    return [float(value) for value in values.ravel()]


SAME = {
    "plain": PLAIN.encode(),
    "byte-order mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "Windows line ends": PLAIN.replace("\n", "\r\n").encode(),
    "Macintosh line ends": PLAIN.replace("\n", "\r").encode(),
    "no last line end": PLAIN.rstrip().encode(),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace("1.5", "1,5").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "Excel's Unicode text": codecs.BOM_UTF16_LE + PLAIN.replace(",", "\t").encode("utf-16-le"),
    "trailing empty columns": PLAIN.replace("\n", ",,\n").encode(),
    "trailing empty rows": (PLAIN + ",,\n,,\n\n").encode(),
    "empty first lines": ("\n\n" + PLAIN).encode(),
    "quoted cells": PLAIN.replace("007", '"007"').encode(),
    "decomposed accents": PLAIN.replace("É", "E\u0301").encode(),
    "spaces around names": PLAIN.replace("id,name,score", " id, name ,score ").encode(),
}


@pytest.mark.parametrize("form", SAME)
def test_the_same_table_in_every_safe_form(tmp_path: Path, form: str) -> None:
    table = read(tmp_path, SAME[form])
    assert table.columns == ["id", "name", "score"]
    assert ids_of(table, "id").to_list() == ["007", "b c"]
    assert ids_of(table, "name").to_list() == ["Élan", "two"]
    assert scores(table) == [1.5, -2.0]
    assert table.rows.to_list()[0] == 1


@pytest.mark.parametrize("suffix", ["xlsx", "parquet"])
def test_files_of_programs(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"id": ["007", "b c"], "name": ["Élan", "two"], "score": [1.5, -2.0], "n": [153, 2]})
    path = tmp_path / f"ratings.{suffix}"
    frame.write_excel(path) if suffix == "xlsx" else frame.write_parquet(path)
    table = read_table(UserFile(path, "ratings file", "sources.ratings"))
    assert table.frame["id"].to_list() == ["007", "b c"]
    assert table.frame["n"].to_list() == ["153", "2"]
    assert scores(table) == [1.5, -2.0]


def test_notes_say_what_was_done(tmp_path: Path) -> None:
    table = read(tmp_path, "id;score;\na;1,5;\n\nb;2;\n")
    assert table.notes == (
        "read with semicolons between cells",
        "left out 1 empty column without a name",
        "left out 1 empty row",
    )
    assert table.rows.to_list() == [1, 3], "rows are those of the file"
    _, notes = to_numbers(table, table.require(["score"]), table.frame["id"], Legal("score", 0, 9))
    assert notes == ["read decimal commas"]


def test_one_column_of_texts_with_commas_is_quoted_or_refused(tmp_path: Path) -> None:
    assert read(tmp_path, 'caption\n"a dog, a cat"\n').frame["caption"].to_list() == ["a dog, a cat"]
    with pytest.raises(SourceError, match="more cells than the header") as error:
        read(tmp_path, "caption\na dog, a cat\n")
    assert "' a cat' in row 1, cell 2" in str(error.value)


REFUSED = {
    "nothing": (b"", "is empty"),
    "white space": (b"\n\n", "is empty"),
    "a header alone": (b"id,score\n", "a header but no rows"),
    "a longer row": (b"id,score\na,1\nb,2,3\n", r"more cells than the header[\s\S]*'3' in row 2, cell 3"),
    "a column without a name": (b"id,,score\na,x,1\n", r"no name for column 2[\s\S]*'x' in row 1"),
    "Latin letters": (PLAIN.encode("latin-1"), r"not UTF-8 text[\s\S]*0xc9 in line 2"),
    "an open quote": (b'id,score\n"a,1\nb,2\n', "cannot be read as CSV"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    content, said = REFUSED[name]
    with pytest.raises(SourceError, match=said):
        read(tmp_path, content)


@pytest.mark.parametrize("name", ["ratings.xlsx", "ratings.parquet"])
def test_a_text_file_with_another_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="cannot be read as"):
        read(tmp_path, PLAIN, name)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(PLAIN)
    with pytest.raises(SourceError, match=r"did you mean 'ratings\.csv'"):
        read_table(UserFile(tmp_path / "rating.csv", "ratings file", "sources.ratings"))
    with pytest.raises(SourceError, match="is a folder"):
        read_table(UserFile(tmp_path, "ratings file", "sources.ratings"))


def test_columns_that_are_missing_or_repeated(tmp_path: Path) -> None:
    table = read(tmp_path, "id,score,score\na,1,2\n")
    with pytest.raises(SourceError, match="did you mean 'score'"):
        table.require(["scores"])
    with pytest.raises(SourceError, match="several columns of the same name"):
        table.require(["score"])
    assert table.require(["score"], first_of_repeated=True)["score"].to_list() == ["1"]


def test_numbers_that_would_have_to_be_guessed(tmp_path: Path) -> None:
    mixed = read(tmp_path, "id;score\na;1,5\nb;2.5\n")
    with pytest.raises(SourceError, match=r"decimal commas and numbers with points[\s\S]*'2.5' in row 2 \(b\)"):
        scores(mixed)
    with pytest.raises(SourceError, match=r"'1,5' in row 1 \(a\), column 'score'"):
        scores(read(tmp_path, 'id,score\na,"1,5"\n'))
    with pytest.raises(SourceError, match=r"'1.234,5' in row 1"):
        scores(read(tmp_path, "id;score\na;1.234,5\n"))
    with pytest.raises(SourceError, match=r"out of range[\s\S]*from -9 to 9[\s\S]*'10' in row 2"):
        scores(read(tmp_path, "id,score\na,1\nb,10\n"))


def test_missing_numbers(tmp_path: Path) -> None:
    table = read(tmp_path, "id,score\na,NA\nb,\nc,3\n")
    assert np.isnan(scores(table, missing=True)).tolist() == [True, True, False]
    with pytest.raises(SourceError, match=r"2 cells[\s\S]*'NA' in row 1"):
        scores(table)
    with pytest.raises(SourceError, match=r"is not a number[\s\S]*'x' in row 1"):
        scores(read(tmp_path, "id,score\na,x\n"), missing=True)


def test_rows_without_an_id(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"1 rows[\s\S]*empty cell in row 2"):
        ids_of(read(tmp_path, "id,score\na,1\n ,2\n"), "id")
