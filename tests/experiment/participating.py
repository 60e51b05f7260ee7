"""Simulated participants in a process of their own: ``python -m tests.experiment.participating JSON``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp

from affectlake.experiment.simulated import Habits, SimulatedParticipant, at_random


async def participate(url: str, seeds: list[int], habits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let participants take part at once, and return what became of each."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        people = [
            SimulatedParticipant(http, url, at_random(seed), seed, Habits(**one))
            for seed, one in zip(seeds, habits, strict=True)
        ]
        outcomes = await asyncio.gather(*(one.run() for one in people))
    return [vars(one) | {"acknowledged": sorted(one.acknowledged)} for one in outcomes]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(participate(**json.loads(sys.argv[1])))))
