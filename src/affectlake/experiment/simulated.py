"""A simulated participant: does over HTTP what the page does, with a rule of choice, lapses, and bad networks."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from affectlake.errors import CollectionError

Choose = Callable[[Sequence[Mapping[str, Any]]], int]
"""Takes the three stimuli of a trial as the server sent them, and returns the position of the odd one, 1 to 3."""

_AGAIN = (429, 502, 503, 504)
_TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True)
class Habits:
    """What a participant does.

    Attributes
    ----------
    lapse : float
        Probability of a random answer.
    think_s : float
        Mean time in seconds before an answer; times are drawn from a uniform distribution from half of it to one and a
        half.
    ahead : int
        Number of trials that are asked for at once, so that media can be loaded.
    resend : float
        Probability that an answer is sent twice.
    drop : float
        Probability that the connection is cut while a request is on its way; the request is sent again.
    reload : float
        Probability, before each answer, that the page is loaded again.
    offline : float
        Probability, before each answer, that the network is gone for the next five answers.
    leave_after : int or None
        Number of answers after which the participant closes the page for good.
    patience_s : float
        Longest time in seconds for which a request is sent again while the server does not answer.
    """

    lapse: float = 0.0
    think_s: float = 0.0
    ahead: int = 5
    resend: float = 0.0
    drop: float = 0.0
    reload: float = 0.0
    offline: float = 0.0
    leave_after: int | None = None
    patience_s: float = 60.0


@dataclass
class Outcome:
    """What became of a participant.

    Attributes
    ----------
    participant : str
        The id.
    state : str
        The last state that the server named.
    sent : dict of int to int
        The answer to each trial, by its number.
    acknowledged : set of int
        Numbers that the server said are stored.
    seconds : list of float
        Time in which each request with answers was answered.
    stimuli : dict of int to tuple
        The `id_key` of the three stimuli of each trial, in the order shown.
    kinds : dict of int to str
        The kind of each trial.
    """

    participant: str = ""
    state: str = ""
    sent: dict[int, int] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    stimuli: dict[int, tuple[str, ...]] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)


class SimulatedParticipant:
    """A participant of an experiment.

    Parameters
    ----------
    http : aiohttp.ClientSession
        Sends the requests.
    url : str
        The address that `affectlake experiment serve` prints, with its token.
    choose : callable
        The rule of choice.
    seed : int
        Seed of everything that is drawn.
    habits : Habits
        What the participant does.
    panel : str, optional
        The id that a panel gave.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        choose: Choose,
        seed: int,
        habits: Habits = Habits(),
        panel: str | None = None,
    ) -> None:
        self._http, self._choose, self._habits, self._panel = http, choose, habits, panel
        self._base, _, query = url.partition("?")
        name, _, token = query.partition("=")
        self._token = {name: token}
        self._random = random.Random(seed)
        self._secret = secrets.token_urlsafe(32)
        self._who: dict[str, str] = {}
        self._queue: dict[int, dict[str, Any]] = {}
        self._offline_for = 0
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Take part until nothing is left, or until the participant leaves.

        Raises
        ------
        CollectionError
            If the server refuses a request, or does not answer for `patience_s`.
        """
        await self._join()
        while trials := await self._trials():
            for trial in trials:
                await self._think()
                self._answer(trial)
                self._offline_for -= 1
                if self._offline_for <= 0:
                    await self._send()
                if len(self.outcome.sent) == self._habits.leave_after:
                    return self.outcome
                if self._is("reload"):
                    await self._join()
                    break
                if self._is("offline"):
                    self._offline_for = 5
        self.outcome.state = (await self._ask("end", self._who | {"how": "done"}))["state"]
        return self.outcome

    async def _join(self) -> None:
        """Load the page: only the secret and the answers that are not acknowledged are known."""
        body: dict[str, Any] = self._token | {"language": "en"} | (self._who or {"secret": self._secret})
        if self._panel is not None:
            body["panel"] = self._panel
        joined = await self._ask("join", body)
        self._who = {name: joined[name] for name in ("participant", "secret")}
        self.outcome.participant, self.outcome.state = joined["participant"], joined["state"]
        if joined["state"] == "consent":
            self.outcome.state = (await self._ask("consent", self._who))["state"]
        await self._send()

    async def _trials(self) -> list[dict[str, Any]]:
        """Return the next trials that have no answer yet, once nothing waits to be sent."""
        await self._send()
        found = await self._ask("trials", self._who | {"n": self._habits.ahead})
        trials: list[dict[str, Any]] = [one for one in found["trials"] if one["number"] not in self.outcome.sent]
        return trials

    def _answer(self, trial: Mapping[str, Any]) -> None:
        number, stimuli = trial["number"], trial["stimuli"]
        position = self._random.randint(1, 3) if self._is("lapse") else self._choose(stimuli)
        self.outcome.sent[number] = position
        self.outcome.stimuli[number] = tuple(one["id_key"] for one in stimuli)
        self.outcome.kinds[number] = trial["kind"]
        self._queue[number] = {"number": number, "position": position, "response_ms": self._random.randint(300, 4000)}

    async def _send(self) -> None:
        if not self._queue:
            return
        body = self._who | {"answers": list(self._queue.values())}
        since = time.perf_counter()
        stored = (await self._ask("answers", body))["stored"]
        self.outcome.seconds.append(time.perf_counter() - since)
        if self._is("resend"):
            stored += (await self._ask("answers", body))["stored"]
        self.outcome.acknowledged.update(stored)
        for number in stored:
            self._queue.pop(number, None)

    async def _think(self) -> None:
        if self._habits.think_s:
            await asyncio.sleep(self._habits.think_s * (0.5 + self._random.random()))

    def _is(self, habit: str) -> bool:
        chance: float = getattr(self._habits, habit)
        return chance > 0 and self._random.random() < chance

    async def _ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request until it is answered."""
        until, pause_s = time.monotonic() + self._habits.patience_s, 0.05
        while True:
            try:
                if self._is("drop"):
                    await self._cut(name, body)
                async with self._http.post(f"{self._base}api/{name}", json=body, timeout=_TIMEOUT) as reply:
                    found: dict[str, Any] = await reply.json()
                    if reply.status == 200:
                        return found
                    if reply.status not in _AGAIN:
                        raise CollectionError(f"the server refused {name}", found=str(found))
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                if time.monotonic() > until:
                    raise CollectionError("the server does not answer", found=f"{type(error).__name__}") from error
            if time.monotonic() > until:
                raise CollectionError(f"the server did not carry out {name}", found="it is busy")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    async def _cut(self, name: str, body: Mapping[str, Any]) -> None:
        """Send a request and cut the connection at a random moment; whether the server got it stays unknown."""

        async def send() -> None:
            async with self._http.post(f"{self._base}api/{name}", json=body, timeout=_TIMEOUT) as reply:
                await reply.read()

        request = asyncio.ensure_future(send())
        await asyncio.wait([request], timeout=self._random.random() * 0.01)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


def at_random(seed: int) -> Choose:
    """Return the rule of a participant who chooses at random."""
    source = random.Random(seed)
    return lambda _stimuli: source.randint(1, 3)


def by_vectors(vectors: NDArray[np.float64]) -> Choose:
    """Return the rule of a participant for whom the two stimuli with the largest dot product belong together.

    Parameters
    ----------
    vectors : float64 (n, d)
        One vector per stimulus, by the index that is its `id_key`.
    """

    def choose(stimuli: Sequence[Mapping[str, Any]]) -> int:
        a, b, c = (vectors[int(one["id_key"])] for one in stimuli)
        return int(np.argmax([b @ c, a @ c, a @ b])) + 1

    return choose
