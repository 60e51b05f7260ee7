r"""How well answers are read: a corpus of answers, each with the position that a person reads from it, or none.

``answers.tsv`` has four sets. The answers of ``first`` were written before the parser read them, and what it misread
was mended; those of ``second`` were written after that, and likewise; those of ``third`` after both, and nothing was
changed for them. They are written after answers of real models, and most of them are harder than usual. ``model`` are
answers of SmolLM2-135M-Instruct to trials of the demo study, as they came. Line breaks are written ``\n``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from affectlake.judge.responses.languages import in_english_words
from affectlake.judge.responses.parsing import parse
from tests.support.chat import KEY_PHRASE

CORPUS = Path(__file__).with_name("answers.tsv")


class Read(NamedTuple):
    """An answer, the position that a person reads from it, and the one that the parser reads."""

    set: str
    language: str
    text: str
    meant: int | None
    found: int | None


def corpus() -> Iterator[Read]:
    with CORPUS.open(encoding="utf-8", newline="") as source:
        for row in csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE):
            text = row["answer"].replace("\\n", "\n")
            meant = int(row["position"]) if row["position"] else None
            yield Read(row["set"], row["language"], text, meant, parse(text, KEY_PHRASE).position)


def counts(*sets: str) -> tuple[int, int, int, int]:
    """Numbers of answers, of those that name a position, of those from which one is read, and of those read rightly."""
    some = [one for one in corpus() if one.set in sets]
    right = sum(one.found is not None and one.found == one.meant for one in some)
    return (
        len(some),
        sum(one.meant is not None for one in some),
        sum(one.found is not None for one in some),
        right,
    )


def test_the_sets_that_the_parser_was_mended_for_hold_no_misreading() -> None:
    wrong = [one for one in corpus() if one.set in ("first", "second") and one.found not in (None, one.meant)]
    assert not wrong
    n, meant, read, right = counts("first", "second")
    assert (n, meant, read, right) == (226, 153, 152, 152)  # as docs/collecting.md says


def test_the_untouched_set_is_read_as_the_documentation_says() -> None:
    assert counts("third") == (41, 27, 27, 25)


def test_answers_of_a_real_model_are_read_as_the_documentation_says() -> None:
    assert counts("model") == (60, 3, 0, 0)  # the three name a video in words other than the key phrase


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_every_language_has_answers_with_and_without_a_position(language: str) -> None:
    some = [one for one in corpus() if one.language == language]
    assert min(sum(one.meant is not None for one in some), sum(one.meant is None for one in some)) >= 10


def test_an_english_answer_is_not_touched() -> None:
    for one in corpus():
        if one.language == "en":
            assert in_english_words(one.text) == one.text or one.meant is None


def test_a_german_word_does_not_make_an_answer_german() -> None:
    text = "Video 2 ist ein Film. Video 2 is noticeably different from the other two, von wegen."
    assert in_english_words(text) == text
