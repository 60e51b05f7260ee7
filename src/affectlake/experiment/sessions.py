"""Participants, what they are given and what they answer: the rules, without HTTP.

Every change is on disk before a method returns. A participant is in memory from its first request on; what is in memory
follows the store, and changes after it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from affectlake.experiment import store_operations as operations
from affectlake.experiment.allocation import Allocation
from affectlake.experiment.offer import Contents, Offer, ServeSettings, Triplet, key_of, members_of
from affectlake.experiment.participants import Answer, Given, Joined, Person
from affectlake.experiment.refusals import Refused
from affectlake.experiment.schedule import Schedule
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.stimulus_numbers import StimulusNumbers
from affectlake.experiment.store_rows import AnswerRow, GivenRow, Participant, as_seconds, as_text
from affectlake.experiment.writer import Writer

T = TypeVar("T")
How = Literal["done", "left", "withdrawn"]

IDLE_S = 3600.0
"""Seconds after a participant's last request after which memory does not have the participant any more."""


_Loaded = tuple[Participant, list[tuple[GivenRow, bool]]]


class Sessions:
    """All participants of one agent.

    Parameters
    ----------
    store : SessionStore
        The store.
    writer : Writer
        Carries out operations on it.
    offer : Offer
        What can be asked, in the indices of `contents`.
    contents : Contents
        The stimuli.
    settings : ServeSettings
        The settings.
    key : bytes
        The key with which ids of a panel are hashed.
    clock : callable
        Returns the seconds since 1970-01-01.
    """

    def __init__(
        self,
        store: SessionStore,
        writer: Writer,
        offer: Offer,
        contents: Contents,
        settings: ServeSettings,
        key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer, self._settings, self._key, self._clock = writer, settings, key, clock
        ids = contents.stimulus_ids
        self._numbers = StimulusNumbers(store.do(lambda database: operations.number_stimuli(database, ids)))
        self.study_token = store.do(operations.study_token)
        at = as_text(clock())
        counted = store.do(lambda database: operations.counted(database, at))
        self.allocation = Allocation(offer, settings.seed, self._numbers.in_indices(counted))
        self._swept = clock()
        self._people: dict[str, Person] = {}
        self._leases: deque[tuple[float, str, int]] = deque()
        self._unloaded: dict[tuple[str, int], int] = {}
        self._lease_rows(store, at)
        self.n_answers = int(counted.chosen.sum() + counted.failed.sum())

    def _lease_rows(self, store: SessionStore, at: str) -> None:
        for one in store.do(lambda database: operations.open_trials(database, at)):
            self._leases.append((as_seconds(one.expires_at), one.participant, one.number))
            key = self._numbers.key(one.i, one.j, one.k)
            if key >= 0:
                self._unloaded[one.participant, one.number] = key

    async def join(
        self, link: str | None, panel: str | None, language: str, participant: str | None, secret: str | None
    ) -> Joined:
        """Return the participant with a secret or a panel's id, or a new one.

        Parameters
        ----------
        link : str or None
            A token that one participant can use; None if the study's own token was given.
        panel : str or None
            The id that a panel gave the participant.
        language : str
            The language of the page.
        participant, secret : str or None
            Those of a participant who continues. A secret without a participant is one that the browser made: the
            first request with it adds a participant, the others find the same.
        """
        if participant is not None and secret is not None:
            person = await self.person(participant, secret)
            self._check_resume(person)
            await self._choose_language(person, language)
            return Joined(person, secret, True)
        at = as_text(self._clock())
        panel_hash = None
        if panel is not None:
            panel_hash, participant, secret = self._identity(panel)
        else:
            participant = base64.b32encode(secrets.token_bytes(10)).decode().lower()
            secret = secret or secrets.token_urlsafe(32)
        secret_hash, link_hash = operations.digest(secret), None if link is None else operations.digest(link)
        is_full = self.allocation.n_free == 0
        new = Participant(participant, secret_hash, panel_hash, language, "consent", at, None, None, at, link_hash)

        def add(database: Any) -> _Loaded | None:
            row = operations.find_participant(database, new.participant, secret_hash)
            if row is None and not is_full:
                row = operations.add_participant(database, new)
            return None if row is None else (row, operations.given_of(database, row.participant))

        loaded = await self._writer.do(add)
        if loaded is None:
            if is_full:
                raise Refused("full", "all trials of this study are answered")
            raise Refused("bad_token", "this link does not exist")
        row = loaded[0]
        if not hmac.compare_digest(row.secret_hash, secret_hash):
            raise Refused("used_link", "this link was used in another browser")
        person = self._in_memory(loaded)
        self._check_resume(person)
        return Joined(person, secret, row is not new)

    async def person(self, participant: str, secret: str) -> Person:
        """Return the participant with an id and a secret.

        Raises
        ------
        Refused
            If there is no such participant, or it has another secret.
        """
        person = self._people.get(participant) or await self._loaded(participant)
        person.used = self._clock()
        if not hmac.compare_digest(person.secret_hash, operations.digest(secret)):
            raise _unknown()
        return person

    async def _choose_language(self, person: Person, language: str) -> None:
        """Set the language, which a participant may change until they agree."""
        async with person.lock:
            if person.state == "consent" and language != person.language:
                await self._writer.do(lambda database: operations.set_language(database, person.id, language))
                person.language = language

    async def consent(self, person: Person) -> None:
        """Record that a participant agrees."""
        async with person.lock:
            self._check_resume(person)
            if person.state == "consent":
                await self._set_state(person, "running")

    async def end(self, person: Person, how: How) -> None:
        """End a session; "done" does nothing while trials are left, and "withdrawn" deletes the answers."""
        async with person.lock:
            if person.state in {"done", "left", "withdrawn"} and how != "withdrawn":
                return
            if how == "done" and (person.n_left or person.state != "running"):
                return
            await (self._withdraw(person) if how == "withdrawn" else self._set_state(person, how))
            await self._release([one for one in person.open.values() if not one.is_released], person)

    async def trials(self, person: Person, n: int) -> tuple[list[Given], bool]:
        """Return the trials that a participant answers next, and whether a break follows them.

        Trials that were given and not answered come first. A break ends the list.

        Parameters
        ----------
        person : Person
        n : int
            Largest number of trials.
        """
        async with person.lock:
            self._check_resume(person)
            if person.state == "consent":
                raise Refused("no_consent", "the participant has not agreed yet")
            if person.state != "running":
                return [], False
            self._expire()
            self._sweep()
            found = list(person.open.values())[:n]
            changed = [one for one in found if one.is_released and self._take_again(one, person)]
            is_break = bool(found) and found[-1].number == person.n and person.schedule.is_before_break()
            new: list[Given] = []
            while len(found) < n and not is_break and (given := self._next(person)) is not None:
                found.append(given)
                new.append(given)
                is_break = person.schedule.is_before_break()
            if new or changed:
                await self._keep(person, new, changed)
            return found, is_break

    async def answer(self, person: Person, answers: Sequence[Answer]) -> tuple[list[int], list[int]]:
        """Store answers; return the numbers that are stored, now or before, and those that were not given."""
        if person.state == "withdrawn":
            raise Refused("over", "the participant withdrew")
        refused = [one.number for one in answers if not 1 <= one.number <= person.n]
        known = [one for one in answers if 1 <= one.number <= person.n]
        new = [one for one in known if one.number in person.open]
        if new:
            at = self._clock()
            text = as_text(at)
            rows = [AnswerRow(person.id, *one, text) for one in new]
            if not await self._writer.do(lambda database: operations.add_answers(database, rows)):
                self._drop(person)
                raise _unknown()
            person.last = at
            for one in new:
                given = person.open.pop(one.number, None)
                if given is not None:
                    self._count(given, one)
        return [one.number for one in known], refused

    def _count(self, given: Given, answer: Answer) -> None:
        if given.kind != "trial":
            return
        self.n_answers += 1
        if answer.position is None:
            self.allocation.fail(given.key, had_place=not given.is_released)
        elif given.is_released:
            self.allocation.fill(given.key)

    def update(self, offer: Offer) -> None:
        """Replace the offer; what is given stays given."""
        self.allocation.update(offer)
        for person in self._people.values():
            person.is_out_of_trials = False

    def _drop(self, person: Person) -> None:
        """Forget a participant in memory; the next request reads the store."""
        if self._people.pop(person.id, None) is not None:
            for one in person.open.values():
                if one.kind == "trial" and not one.is_released:
                    self._unloaded[person.id, one.number] = one.key

    def _sweep(self) -> None:
        """Drop those who did not ask for `IDLE_S`."""
        at = self._clock()
        if at - self._swept > IDLE_S / 6:
            self._swept = at
            for person in [one for one in self._people.values() if at - one.used > IDLE_S and not one.lock.locked()]:
                self._drop(person)

    def _identity(self, panel: str) -> tuple[str, str, str]:
        """Return the hash of a panel's id, the participant and the secret, which are the same on every device."""
        hashed, secret = (
            hmac.digest(self._key, f"{word}\x1f{panel}".encode(), hashlib.sha256) for word in ("panel", "secret")
        )
        participant = base64.b32encode(hashed)[:16].decode().lower()
        return hashed.hex(), participant, base64.urlsafe_b64encode(secret).decode().rstrip("=")

    async def _loaded(self, participant: str) -> Person:
        def load(database: Any) -> _Loaded | None:
            row = operations.find_participant(database, participant)
            return None if row is None else (row, operations.given_of(database, participant))

        found = await self._writer.do(load)
        if found is None:
            raise _unknown()
        return self._in_memory(found)

    def _in_memory(self, loaded: _Loaded) -> Person:
        """Return the participant in memory; one who is there already has everything that the store has."""
        participant = loaded[0].participant
        if participant not in self._people:
            self._people[participant] = self._person_of(*loaded)
        person = self._people[participant]
        person.used = self._clock()
        return person

    def _person_of(self, row: Participant, given: Sequence[tuple[GivenRow, bool]]) -> Person:
        person = Person(row, self._schedule(row.participant))
        for one, is_answered in given:
            a, b, c = (self._numbers.index(number) for number in one.shown)
            key = self._numbers.key(*one.shown)
            person.schedule.add(one.kind, key, _order_of(one))
            person.n = one.number
            was_leased = self._unloaded.pop((person.id, one.number), None) is not None
            if not is_answered and key >= 0:
                expires = as_seconds(one.expires_at)
                right = None if one.right_answer is None else self._numbers.index(one.right_answer)
                is_released = bool(one.released) or (expires <= self._clock() and not was_leased)
                person.open[one.number] = Given(one.number, one.kind, key, (a, b, c), right, expires, is_released)
        return person

    def _schedule(self, participant: str) -> Schedule:
        offer = self.allocation.offer
        return Schedule(self._settings, participant, len(offer.practice), len(offer.catch))

    def _check_resume(self, person: Person) -> None:
        if person.state == "running" and self._clock() - person.last > self._settings.resume_within_h * 3600:
            raise Refused("over", "this session was interrupted for too long to continue")

    async def _set_state(self, person: Person, state: str) -> None:
        at = self._clock()
        if not await self._writer.do(lambda database: operations.set_state(database, person.id, state, as_text(at))):
            self._drop(person)
            raise _unknown()
        person.state, person.last = state, at

    async def _withdraw(self, person: Person) -> None:
        at = self._clock()
        gone = await self._writer.do(lambda database: operations.withdraw(database, person.id, as_text(at)))
        if gone is None:
            self._drop(person)
            raise _unknown()
        person.state, person.last = "withdrawn", at
        for numbers, is_chosen in gone:
            key = self._numbers.key(*numbers)
            if key >= 0:
                self.n_answers -= 1
                (self.allocation.put_back if is_chosen else self.allocation.take_back_failure)(key)

    def _next(self, person: Person) -> Given | None:
        """Take the next trial for a participant."""
        schedule, offer = person.schedule, self.allocation.offer
        kind = schedule.following()
        if kind is None or person.is_out_of_trials:
            return None
        right: int | None = None
        n_before = 0
        if kind in {"practice", "catch"}:
            rows = offer.practice if kind == "practice" else offer.catch
            at = schedule.n_given["practice"] if kind == "practice" else schedule.catch(len(rows))
            members = sorted(rows[at].tolist())
            right = int(rows[at, 2])
        elif kind == "repeat":
            members = list(members_of(schedule.seen[schedule.source()]))
        else:
            found = self.allocation.take(set(schedule.seen))
            if found is None:
                person.is_out_of_trials = True
                return None
            members, n_before = list(found.trial), found.n_before
        key = key_of(*members)
        order = schedule.order(kind, self._preference(key, n_before))
        schedule.add(kind, key, order)
        person.n += 1
        shown: Triplet = (members[order[0]], members[order[1]], members[order[2]])
        expires = self._expiry()
        given = Given(person.n, kind, key, shown, right, expires, False)
        person.open[person.n] = given
        if kind == "trial":
            self._leases.append((expires, person.id, person.n))
        return given

    def _preference(self, key: int, n: int) -> int:
        """Return the order in which a trial is shown for the n-th time, all six before one is repeated."""
        mixed = ((key ^ self._settings.seed) * 0x9E3779B97F4A7C15) & (1 << 64) - 1
        return ((mixed >> 32) + n) % 6

    def _take_again(self, given: Given, person: Person) -> bool:
        """Give a released trial to the same participant again, if its place is free."""
        if given.kind != "trial" or not self.allocation.is_open(given.key):
            return False
        self.allocation.fill(given.key)
        given.is_released = False
        given.expires = self._expiry()
        self._leases.append((given.expires, person.id, given.number))
        return True

    def _expiry(self) -> float:
        """Return the time until which a trial that is given now can be answered, as the store has it."""
        return as_seconds(as_text(self._clock() + self._settings.give_again_after_min * 60))

    def _expire(self) -> None:
        """Release the trials whose time is over."""
        at = self._clock()
        while self._leases and self._leases[0][0] <= at:
            expires, participant, number = self._leases.popleft()
            key = self._unloaded.pop((participant, number), None)
            if key is not None:
                self.allocation.put_back(key)
                continue
            person = self._people.get(participant)
            given = person.open.get(number) if person else None
            if given is not None and not given.is_released and given.expires == expires:
                given.is_released = True
                self.allocation.put_back(given.key)

    async def _release(self, given: Sequence[Given], person: Person) -> None:
        which = [(person.id, one.number) for one in given]
        await self._writer.do(lambda database: operations.release(database, which))
        for one in given:
            if not one.is_released and one.number in person.open:
                one.is_released = True
                if one.kind == "trial":
                    self.allocation.put_back(one.key)

    async def _keep(self, person: Person, new: Sequence[Given], again: Sequence[Given]) -> None:
        """Write given trials; if that fails, forget the participant, who is read from the store at the next request."""
        at = self._clock()
        text = as_text(at)
        rows = [self._row(person, one, text) for one in new]
        times = [(one.number, as_text(one.expires)) for one in again]
        is_known = False
        try:
            is_known = await self._writer.do(
                lambda database: operations.add_given(database, person.id, rows, times, text)
            )
        finally:
            if not is_known:
                for one in (*new, *again):
                    if one.kind == "trial" and not one.is_released:
                        one.is_released = True
                        self.allocation.put_back(one.key)
                self._drop(person)
        if not is_known:
            raise _unknown()
        person.last = at

    def _row(self, person: Person, given: Given, at: str) -> GivenRow:
        numbers = self._numbers.of_index
        a, b, c = (numbers[index] for index in given.shown)
        i, j, k = sorted((a, b, c))
        right = None if given.right is None else numbers[given.right]
        until = as_text(given.expires)
        return GivenRow(person.id, given.number, given.kind, i, j, k, a, b, c, right, at, until, 0)


def _order_of(given: GivenRow) -> Triplet:
    a, b, c = ((given.i, given.j, given.k).index(one) for one in given.shown)
    return a, b, c


def _unknown() -> Refused:
    return Refused("unknown_participant", "the participant is unknown, or has another secret")
