"""Settings say which key is wrong; pruning and matching follow their rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from affectlake.errors import UsageError
from affectlake.spose.pruning import kept, order, pruned
from affectlake.spose.schedules import learning_rate
from affectlake.spose.settings import FewJudgments, Settings
from affectlake.validation import check


def test_settings_come_from_a_mapping() -> None:
    settings = check(Settings, {"l1": 0.004, "dimensions": 12, "learning_rate": 1})
    assert (settings.l1, settings.dimensions, settings.learning_rate) == (0.004, 12, 1)
    assert check(Settings, {"l1": 0}) == Settings(l1=0)


def test_defaults_are_those_of_the_documentation() -> None:
    assert Settings(l1=0.004).model_dump() == {
        "l1": 0.004, "dimensions": 30, "batch_size": 1024, "max_epochs": 1000, "patience": None, "min_delta": 1e-5,
        "convergence_epochs": 50, "schedule": "constant", "learning_rate": 0.001, "final_learning_rate": 0.0002,
        "warmup_epochs": 0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "init_mean": 0.1, "init_std": 0.01,
        "pruning": "max-weight", "threshold": 0.1, "learn_lapses": False,
    }  # fmt: skip
    assert FewJudgments().model_dump() == {
        "priors": (0.14, 1.4, 4.0), "learning_rate": 0.01, "max_epochs": 500, "patience": 60, "min_delta": 1e-5,
        "learn_lapses": True, "cycle_epochs": None, "init_stds": None,
    }  # fmt: skip


def test_batches_of_fits_in_cycles_follow_the_number_of_judgments() -> None:
    base, few = Settings(l1=0.004, warmup_epochs=3), FewJudgments(priors=(0.14,), learning_rate=0.03, cycle_epochs=10)
    sizes = {1000: 512, 120 * 1024: 1024, 250_000: 2048, 10**7: 8192}
    for n_judgments, size in sizes.items():
        (own,) = few.candidates(base, n_judgments, 2000)
        assert (own.batch_size, own.schedule, own.convergence_epochs) == (size, "cosine", 10)
        assert [learning_rate(own, epoch) for epoch in (10, 11, 20)] == pytest.approx([0.0003, 0.03, 0.0003])
        assert [learning_rate(own, epoch) for epoch in (1, 2)] == pytest.approx([0.03 / 9, 0.06 / 9])
        (longer,) = few.replaced(cycle_epochs=20).candidates(base, n_judgments, 2000)
        assert longer.batch_size == {1000: 512, 120 * 1024: 2048, 250_000: 4160, 10**7: 8192}[n_judgments]
    (constant,) = few.replaced(cycle_epochs=None).candidates(base, 1000, 2000)
    assert {learning_rate(constant, epoch) for epoch in range(1, 30)} == {0.03}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("l1", -0.1),
        ("l1", "0.004"),
        ("l1", None),
        ("l1", float("nan")),
        ("dimensions", 0),
        ("dimensions", 30.0),
        ("dimensions", True),
        ("batch_size", 0),
        ("max_epochs", -1),
        ("patience", 0),
        ("min_delta", -1e-9),
        ("learning_rate", 0),
        ("learning_rate", float("inf")),
        ("beta1", 1.0),
        ("beta2", 0.5),
        ("epsilon", 0),
        ("init_mean", "a"),
        ("init_std", -0.01),
        ("pruning", "max_weight"),
        ("pruning", 3),
        ("threshold", -1),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^spose\.{key} must be ") as caught:
        check(Settings, {"l1": 0.004, key: value}, within="spose")
    assert caught.value.found == ("null" if value is None else "true" if value is True else repr(value))
    with pytest.raises(ValueError, match=key):
        Settings(**{"l1": 0.004, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("priors", ()), ("priors", (0.14, 0)), ("priors", (1, 1)), ("learning_rate", 0), ("max_epochs", 0),
     ("cycle_epochs", 1), ("patience", 0), ("min_delta", -1e-9)],
)  # fmt: skip
def test_a_wrong_value_of_fits_to_few_judgments_is_named(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^spose\.few\.{key}"):
        check(FewJudgments, {key: value}, within="spose.few")


def test_an_unknown_key_and_a_missing_one_are_named() -> None:
    with pytest.raises(UsageError, match=r"^batchsize is not a known key") as caught:
        check(Settings, {"l1": 0.004, "batchsize": 128})
    assert caught.value.todo == "did you mean 'batch_size'?"
    with pytest.raises(UsageError, match=r"^l1 is missing"):
        check(Settings, {"dimensions": 30})


def test_a_changed_copy_is_checked() -> None:
    assert Settings(l1=0.004).replaced(dimensions=3) == Settings(l1=0.004, dimensions=3)
    with pytest.raises(ValueError, match="dimensions"):
        Settings(l1=0.004).replaced(dimensions=0)


WEIGHTS = np.array([[0.05, 2.0, 0.0, 0.1], [0.04, 1.0, 5.0, 0.05]], np.float32)


def test_dimensions_are_ordered_by_falling_sum_and_pruned_by_their_largest_weight() -> None:
    assert order(WEIGHTS).tolist() == [2, 1, 3, 0]
    assert kept(WEIGHTS, "max-weight", 0.1).tolist() == [False, True, True, False]
    assert kept(WEIGHTS, "none", 0.1).all()
    np.testing.assert_array_equal(pruned(WEIGHTS, "max-weight", 0.1), WEIGHTS[:, [2, 1]])
    np.testing.assert_array_equal(pruned(WEIGHTS, "max-weight", 0.04), WEIGHTS[:, [2, 1, 3, 0]])
    assert pruned(WEIGHTS, "max-weight", 9.0).shape == (2, 0)
