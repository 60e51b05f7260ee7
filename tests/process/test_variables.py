"""Numbers in the environment: digits or one message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlake.errors import UsageError
from affectlake.process.variables import integer

NAME = "AFFECTLAKE_A_NUMBER"


def read() -> int:
    return integer(NAME, 1, 1024, default=7, meaning="a number of things", unset="to have seven")


@pytest.mark.parametrize(
    ("text", "expected"), [(None, 7), ("", 7), ("  ", 7), ("1", 1), (" 3 ", 3), ("1024", 1024), ("007", 7)]
)
def test_a_number_or_the_default(text: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    if text is not None:
        monkeypatch.setenv(NAME, text)
    assert read() == expected


@pytest.mark.parametrize(
    "text", ["two", "0", "-1", "+1", "1e3", "1025", "2.0", "٣", "²", "2 3", "1_000", "0x10", "9" * 5000, "1\n2"]
)
def test_anything_else_is_one_message(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(UsageError) as caught:
        read()
    assert caught.value.summary == f"{NAME}={text} is not a number of things"
    assert caught.value.wanted == "an integer in decimal digits"
    assert caught.value.allowed == "1 to 1,024"
    assert caught.value.todo == f"set the environment variable {NAME} to one of these, or unset it to have seven"


@given(st.integers(0, 2000))
def test_exactly_the_range_is_taken(number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NAME, str(number))
        if 1 <= number <= 1024:
            assert read() == number
        else:
            with pytest.raises(UsageError, match="is not a number of things"):
                read()
