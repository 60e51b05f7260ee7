"""The words that decide how an answer is read: without them it is read otherwise."""

from __future__ import annotations

import csv
import json

import pytest

from affectlake.judge.protocols.builtin import built_in
from affectlake.judge.responses.deciding import deciding_words
from affectlake.judge.responses.parsing import parse
from tests.judge.test_answer_corpus import CORPUS
from tests.support.chat import KEY_PHRASE

ONE_TOKEN = built_in("forced-choice/caption")


def marked(text: str) -> list[str]:
    return [text[span.start : span.end] for span in deciding_words(text, KEY_PHRASE)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Video 2 is noticeably different from the other two.", ["Video 2", "noticeably different"]),
        ("All are calm. Video 1 is noticeably different.", ["Video 1", "noticeably different"]),
        ("Video 3 is noticeably different. Yes: Video 3 is noticeably different.",
         ["Video 3", "noticeably different", "Video 3", "noticeably different"]),
        ("I'm sorry, I cannot view videos.", []),  # each of two phrases would do
        ("I cannot do that.", ["I cannot"]),
        ("", []),
        ("Nothing about the stimuli.", []),
    ],
)  # fmt: skip
def test_marks_are_the_words_that_name_the_choice(answer: str, words: list[str]) -> None:
    assert marked(answer) == words


def test_a_label_is_marked() -> None:
    assert [tuple(span) for span in deciding_words(" 2\n", ONE_TOKEN)] == [(1, 2)]


def test_answers_of_the_corpus_are_read_otherwise_without_the_marks() -> None:
    n = 0
    with CORPUS.open(encoding="utf-8", newline="") as source:
        for row in csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE):
            text = row["answer"].replace("\\n", "\n")
            read, spans = parse(text, KEY_PHRASE), deciding_words(text, KEY_PHRASE)
            if read.position is None:
                continue
            n += 1
            assert spans, json.dumps(text)
            without = text
            for span in spans:
                without = without[: span.start] + " " * (span.end - span.start) + without[span.end :]
            assert parse(without, KEY_PHRASE) != read, json.dumps(text)
    assert n > 150
