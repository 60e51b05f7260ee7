"""Schedules for tests, without a lake around them."""

from __future__ import annotations

from typing import Any

from affectlake.pipelines.params.schedules import Schedule


def make_schedule(name: str, agent: str, cron: str, limit: int | None, **more: Any) -> Schedule:
    """A schedule under its name."""
    return Schedule(agent=agent, cron=cron, limit=limit, **more).named(name)
