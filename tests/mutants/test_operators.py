"""Mutants are other code that can be parsed, of every kind, and nothing is mutated that cannot change a result."""

from __future__ import annotations

import ast
import random

import pytest

from tests.mutants.operators import chosen, functions, mutated, sites

SOURCE = '''"""A module with 1 number in its docstring."""

from __future__ import annotations

import numpy as np

SIZES: tuple[int, ...] = (1, 2.5)


@decorated(version=3)
def mean(κ: list[float], other: list[float], skip: bool = True) -> dict[str, int]:
    """Return 1 mean."""
    low, high = 0, len(κ)
    if skip and not other:
        raise ValueError(f"{len(κ)} values, {low + 1} wanted")
    log.log("a line of 2 words", 3)
    total = {"first": 0}
    for one in κ[low:high]:
        if one is None:
            continue
        total["first"] += -one * 2
    return np.sqrt(total.get("second", default=low < high))


if TYPE_CHECKING:
    WORDS = 4 + 5
'''


def found(text: str) -> set[tuple[str, str]]:
    return {(site.kind, text.encode()[site.start : site.end].decode()) for site in sites(text)}


def test_every_kind_of_mistake_is_made() -> None:
    kinds = found(SOURCE)
    assert {
        ("constant", "1"), ("constant", "2.5"), ("constant", "True"), ("condition", "skip and not other"),
        ("and, or", "and"), ("sign", "not other"), ("sign", "-one"), ("arithmetic", "*"), ("arithmetic", "+="),
        ("comparison", "is"), ("comparison", "<"), ("loop", "κ[low:high]"), ("loop", "continue"),
        ("statement", 'total["first"] += -one * 2'), ("string", '"second"'), ("another variable", "low"),
        ("another variable", "κ"), ("argument left out", ", default=low < high"),
        ("call left out", 'np.sqrt(total.get("second", default=low < high))'),
    } <= kinds  # fmt: skip


def test_what_cannot_change_a_result_is_left_alone() -> None:
    texts = {text for _, text in found(SOURCE)}
    assert not {"3", "4", "5", "0.5", '"a line of 2 words"', "version=3", "low + 1"} & texts
    lines = {site.line for site in sites(SOURCE)}
    docstrings, messages, checked = {1, 12}, {15, 16}, {27}
    assert not lines & (docstrings | messages | checked)


@pytest.mark.parametrize("seed", range(3))
def test_every_mutant_is_other_code_in_one_place(seed: int) -> None:
    rng = random.Random(seed)
    for site in sites(SOURCE):
        made = chosen(SOURCE, site, rng)
        assert made is not None, site
        text, after = made
        assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(SOURCE))
        assert after == mutated(SOURCE, site, text)
        assert len(after) - len(SOURCE) == len(text) - len(SOURCE.encode()[site.start : site.end].decode())


def test_functions_begin_with_their_decorators() -> None:
    assert list(functions(SOURCE)) == [(10, 22)]
