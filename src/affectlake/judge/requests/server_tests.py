"""The test of a server before it is used: does it serve the model, and how does it limit answers to labels?"""

from __future__ import annotations

import asyncio

from affectlake.errors import CollectionError
from affectlake.judge.requests.answers import RETRYABLE, Failure
from affectlake.judge.requests.client import Client, Facts, examine, unusable
from affectlake.judge.requests.constraints import find_constraint
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.server_pool import Server


async def tested_server(client: Client, server: Server, target: Target, limits: Limits) -> Facts | CollectionError:
    """Return what a server reports about itself, and note its engine and constraint; or return why it cannot be used.

    Failures of the test question that may pass are retried, as those of other questions.

    Parameters
    ----------
    client : Client
        The client.
    server : Server
        The server; its ``engine`` and ``constraint`` are set.
    target : Target
        The model, and the test question.
    limits : Limits
        Limits on retries.
    """
    try:
        facts = await examine(client, server.url, target.model)
        server.engine = facts.engine
        if target.probe is not None:
            for attempt in range(1, limits.attempts + 1):
                try:
                    server.constraint = await find_constraint(client, server.url, target.probe, target.constraint)
                    break
                except Failure as failure:
                    if failure.kind not in RETRYABLE or attempt == limits.attempts:
                        wanted = "an answer to the question by which it is tested"
                        raise unusable(server.url, failure, wanted) from failure
                    await asyncio.sleep(limits.pause_s(attempt, failure.retry_after_s))
    except CollectionError as error:
        return error
    return facts
