"""A Prefect flow with one task, whose error is that of the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def run_as_flow(name: str, run_name: str, as_task: Callable[[Callable[[], object]], Any], work: Callable[[], T]) -> T:
    """Carry out work as the only task of a flow.

    Parameters
    ----------
    name, run_name : str
        Names of the flow and of its run.
    as_task : callable
        Makes a Prefect task of a function.
    work : callable
        The work. What it raises is raised, not what Prefect makes of it.
    """
    from prefect import flow

    failures: list[Exception] = []

    def noted() -> T:
        try:
            return work()
        except Exception as error:
            failures.append(error)
            raise

    task = as_task(noted)

    @flow(name=name, flow_run_name=run_name)
    def one_task() -> Any:
        return task()

    try:
        result: Any = one_task()
    except Exception:
        for error in failures:
            raise error from error.__cause__
        raise
    done: T = result
    return done
