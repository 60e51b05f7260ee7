"""The plan of a collection: the questions that remain to be asked of an agent, and their order.

Trials are stored in arrays, about 40 bytes each; a question becomes an object only when it is used.

A trial is *answered* if there is an answer to the question as it would be asked now: with the same model, revision,
protocol and sampling, and the same captions or frames of the same stimuli, in any order shown. Each stored answer is
checked by its key, so that answers of another model, or from before a change of the catalogue, do not count.

If an agent is asked in three or six orders, each order is a question. The first order of a trial is the one in which it
would be asked in one order, so that existing answers count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.wording import Wording
from affectlake.judge.trials.caption_draw import draw_captions
from affectlake.judge.trials.content import Materials
from affectlake.judge.trials.orders import ORDER_SETS, ORDERS, SLOT, balanced_orders, order_codes, shown
from affectlake.judge.trials.questions import Question
from affectlake.judge.trials.request_keys import KeyMaker, request_seed
from affectlake.judge.trials.shares import Share
from affectlake.seeds import generator
from affectlake.triplets import TRIPLET, pack

BLOCK = 100_000
"""Number of questions that are drawn at random from the remaining ones and then sorted to share prefixes.

A larger number gives longer runs with a shared prefix; with a smaller one, a collection that stops early covers the
trial set more evenly.
"""

SLICE = 4_096
"""Number of questions for which requests are made at a time."""

DrawOrders = Callable[[NDArray[np.int32], int, np.random.Generator], NDArray[np.uint8]]
"""Draws the order code of each trial from the trials, the size of the catalogue and a generator."""

SHOWN = ["shown_1", "shown_2", "shown_3"]
CAPTIONS = ["caption_1", "caption_2", "caption_3"]


class Trials(NamedTuple):
    """A set of trials.

    Attributes
    ----------
    trial_set : str
        Its name.
    triplets : int32 (m, 3)
        Canonical: rows i < j < k, sorted, without duplicates.
    n_repeats : int16 (m,)
        Number of answers planned for each.
    """

    trial_set: str
    triplets: NDArray[np.int32]
    n_repeats: NDArray[np.int16]


@dataclass(frozen=True)
class Plan:
    """The remaining questions of a trial set.

    Parameters
    ----------
    agent : ChatAgent
        The agent to ask.
    trials : Trials
        The trial set.
    materials : Materials
        The content of the stimuli.
    n_planned : int
        Number of answers planned for the trial set.
    n_unaskable : int
        Number of these that cannot be asked for, because a stimulus has no caption or no frames.
    n_answered : int
        Number of these that exist.
    n_open : int
        Number of these that can be asked for now, including questions that the limit excludes from this plan.
    row : int32 (n_left,)
        Row of the triplet of each remaining question, in the order in which they are asked.
    repeat : int16 (n_left,)
        Number of the repeat, from 0.
    order_code : uint8 (n_left,)
        The order shown: a row of :data:`affectlake.judge.trials.orders.ORDERS`.
    caption_seed : int
        Seed of the caption draws.
    """

    agent: ChatAgent
    trials: Trials
    materials: Materials
    n_planned: int
    n_unaskable: int
    n_answered: int
    n_open: int
    row: NDArray[np.int32]
    repeat: NDArray[np.int16]
    order_code: NDArray[np.uint8]
    caption_seed: int

    @property
    def n_left(self) -> int:
        """Number of questions that :meth:`questions` yields."""
        return len(self.row)

    def part(self, start: int, end: int) -> Plan:
        """Return a plan of the questions from `start` (included) to `end` (excluded)."""
        some = slice(start, end)
        return replace(self, row=self.row[some], repeat=self.repeat[some], order_code=self.order_code[some])

    def questions(self, block: int = BLOCK) -> Iterator[Question]:
        """Yield the remaining questions. Within a block they are sorted by the first stimuli shown.

        Parameters
        ----------
        block : int
            Number of questions in a block.
        """
        maker = KeyMaker(self.agent, self.trials.trial_set, self.materials)
        wording = Wording(self.agent.asking, self.agent.model, self.agent.sampling)
        for start in range(0, self.n_left, block):
            at = np.arange(start, min(start + block, self.n_left))
            in_order, options = self._shown(at)
            ahead = np.lexsort((options[:, 1], in_order[:, 1], options[:, 0], in_order[:, 0]))
            for first in range(0, len(ahead), SLICE):
                some = ahead[first : first + SLICE]
                yield from self._worded(maker, wording, at[some], in_order[some], options[some])

    def _shown(self, at: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Return the stimuli in the order shown and the caption of each, both (m, 3)."""
        in_order = shown(self.trials.triplets[self.row[at]], self.order_code[at])
        if self.materials.modality == "videos":
            return in_order, np.zeros(in_order.shape, dtype=np.int16)
        return in_order, draw_captions(in_order, self.repeat[at], self.materials.n_options, self.caption_seed)

    def _worded(
        self,
        maker: KeyMaker,
        wording: Wording,
        at: NDArray[np.intp],
        in_order: NDArray[np.int32],
        options: NDArray[np.int16],
    ) -> Iterator[Question]:
        captions, videos = self.materials.captions, self.materials.modality == "videos"
        name, base = self.trials.trial_set, self.agent.sampling.seed
        rows = zip(
            maker.keys(in_order, options, self.repeat[at]),
            self.trials.triplets[self.row[at]].tolist(),
            self.repeat[at].tolist(),
            map(tuple, ORDERS[self.order_code[at]].tolist()),
            in_order.tolist(),
            map(tuple, options.tolist()),
            strict=True,
        )
        for key, (i, j, k), repeat, order, stimuli, drawn in rows:
            seed = request_seed(base, key)
            if videos:
                body = wording.of_videos([self.materials.video(s) for s in stimuli], seed)
            else:
                body = wording.of_captions([captions[s][c] for s, c in zip(stimuli, drawn, strict=True)], seed)
            yield Question(key, name, i, j, k, repeat, order, None if videos else drawn, stimuli[0], body)


def make_plan(
    agent: ChatAgent,
    trials: Trials,
    materials: Materials,
    root: int,
    answered: Iterable[pl.DataFrame] = (),
    limit: int | None = None,
    among: Iterable[pl.DataFrame] | None = None,
    proposed: pl.DataFrame | None = None,
    share: Share | None = None,
    draw_orders: DrawOrders = balanced_orders,
) -> Plan:
    """Plan the remaining questions of a trial set.

    Parameters
    ----------
    agent : ChatAgent
        The agent to ask.
    trials : Trials
        The trial set.
    materials : Materials
        The content of the stimuli, in the agent's modality.
    root : int
        Root seed of the study. Together with the names of the agent (or of the one in its `draws_of`) and the trial
        set, it determines the orders shown, the captions and the order in which questions are asked.
    answered : iterable of polars.DataFrame
        Rows of the agent's responses whose questions are not asked again, in parts of any size: ``request_key,
        trial_set, i, j, k, repeat, shown_1 … shown_3, caption_1 … caption_3``. Rows to other questions are ignored.
    limit : int, optional
        Largest number of questions in the plan; they are a random subset of the remaining ones.
    among : iterable of polars.DataFrame, optional
        Rows of the agent's responses, such as those that failed; only their questions are planned.
    proposed : polars.DataFrame, optional
        Triplets, columns ``i, j, k``; only the first repeat of each is planned.
    share : Share, optional
        The share of which questions are planned and counted.
    draw_orders : callable
        :func:`affectlake.judge.trials.orders.balanced_orders`, or a function that returns the same.

    Returns
    -------
    Plan
    """
    n_stimuli = len(materials.stimulus_ids)
    askable = (materials.n_options > 0)[trials.triplets].all(axis=1)  # (m,)
    repeats = np.where(askable, trials.n_repeats, 0).astype(np.int16)
    rows, base_codes = _orders(trials, repeats, n_stimuli, root, agent.draws, draw_orders)
    base_code = np.concatenate(base_codes) if base_codes else np.empty(0, np.uint8)  # (n,) of trials and repeats
    starts = np.cumsum([0, *(len(some) for some in rows)], dtype=np.int64)
    maker = KeyMaker(agent, trials.trial_set, materials)

    def marked(frames: Iterable[pl.DataFrame]) -> NDArray[np.bool_]:
        found = np.zeros((starts[-1], agent.orders), dtype=np.bool_)  # a column for each order
        for frame in frames:
            valid = valid_answers(frame, maker, trials.trial_set)
            places = _places(valid, trials, n_stimuli, rows, starts)
            slots = _slots(valid, base_code, places, agent.orders)
            counted = (places >= 0) & (slots < agent.orders)
            found[places[counted], slots[counted]] = True
        return found

    own = _of_share(share, trials.triplets, rows)[:, None]
    done = marked(answered) & own
    open_ = ~done & own if among is None else ~done & own & marked(among)
    if proposed is not None:
        first = proposed.select("i", "j", "k", repeat=pl.lit(0, dtype=pl.Int16))
        places = _places(first, trials, n_stimuli, rows, starts)
        chosen = np.zeros((len(done), 1), dtype=np.bool_)
        chosen[places[places >= 0]] = True
        open_ &= chosen
    wanted = [np.flatnonzero(trials.n_repeats > repeat) for repeat in range(int(trials.n_repeats.max(initial=0)))]
    n_planned = agent.orders * int(_of_share(share, trials.triplets, wanted).sum())
    drawn = generator(root, "schedule", agent.name, trials.trial_set).permutation(np.arange(len(done), dtype=np.int32))
    place = np.repeat(
        drawn, agent.orders
    )  # the orders of a trial follow one another, so that a limit leaves few sets open
    slot = np.tile(np.arange(agent.orders, dtype=np.int8), len(drawn))
    is_left = open_[place, slot]
    place, slot = place[is_left][:limit], slot[is_left][:limit]
    return Plan(
        agent=agent,
        trials=trials,
        materials=materials,
        n_planned=n_planned,
        n_unaskable=n_planned - agent.orders * int(own.sum()),
        n_answered=int(done.sum()),
        n_open=int(open_.sum()),
        row=np.concatenate(rows)[place] if rows else np.empty(0, np.int32),
        repeat=(np.searchsorted(starts, place, side="right") - 1).astype(np.int16),
        order_code=ORDER_SETS[base_code[place], slot],
        caption_seed=int(generator(root, "captions", agent.draws, trials.trial_set).integers(2**63)),
    )


def valid_answers(frame: pl.DataFrame, maker: KeyMaker, trial_set: str) -> pl.DataFrame:
    """Return the rows of a trial set whose key is that of the question as it would be asked now.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of the responses; see :func:`make_plan` for the columns.
    maker : KeyMaker
        Maker of the keys for the agent, trial set and materials as they are now.
    trial_set : str
        The trial set.
    """
    rows = frame.filter(pl.col("trial_set") == trial_set)
    in_order = rows.select(SHOWN).to_numpy().astype(np.int32).reshape(-1, 3)
    options = rows.select(pl.col(CAPTIONS).fill_null(0)).to_numpy().astype(np.int16).reshape(-1, 3)
    known = maker.has(in_order, options)
    keys = maker.keys(in_order[known], options[known], rows["repeat"].to_numpy()[known])
    stored = rows["request_key"].filter(pl.Series(known)).to_list()
    same = known.copy()
    same[known] = [key == held for key, held in zip(keys, stored, strict=True)]
    return rows.filter(pl.Series(same, dtype=pl.Boolean))


def _orders(
    trials: Trials, repeats: NDArray[np.int16], n_stimuli: int, root: int, agent: str, draw_orders: DrawOrders
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.uint8]]]:
    """Return, for each repeat, the rows asked and their order codes. Each repeat is balanced separately."""
    rows, base_codes = [], []
    for repeat in range(int(repeats.max(initial=0))):
        asked = np.flatnonzero(repeats > repeat).astype(np.int32)
        rng = generator(root, "orders", agent, trials.trial_set, repeat)
        rows.append(asked)
        base_codes.append(draw_orders(trials.triplets[asked], n_stimuli, rng))
    return rows, base_codes


def _slots(
    answers: pl.DataFrame, base_code: NDArray[np.uint8], places: NDArray[np.int64], n_orders: int
) -> NDArray[np.int8]:
    """Return the index of each answer's order among the orders of its trial; one order stands for any."""
    if n_orders == 1 or not len(places):
        return np.zeros(len(places), dtype=np.int8)
    triplets, in_order = (answers.select(names).to_numpy().astype(np.int32) for names in (TRIPLET, SHOWN))
    return np.asarray(SLOT[base_code[np.maximum(places, 0)], order_codes(triplets, in_order)])


def _of_share(
    share: Share | None, triplets: NDArray[np.int32], rows: Sequence[NDArray[np.integer]]
) -> NDArray[np.bool_]:
    """Return a mask of the questions in a share (all without a share); `rows` are the rows of `triplets` by repeat."""
    if share is None or not rows:
        return np.ones(sum(len(some) for some in rows), dtype=np.bool_)
    return np.concatenate([share.takes(triplets[some], repeat) for repeat, some in enumerate(rows)])


def _places(
    answers: pl.DataFrame, trials: Trials, n_stimuli: int, rows: list[NDArray[np.int32]], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the index of the trial and repeat of each answer among all that are asked; -1 for other answers."""
    if answers.is_empty() or not rows:
        return np.full(answers.height, -1, np.int64)
    wanted = pack(answers.select("i", "j", "k").to_numpy().astype(np.int32), n_stimuli)
    every = pack(trials.triplets, n_stimuli)
    row = np.minimum(np.searchsorted(every, wanted), len(every) - 1)
    repeat = answers["repeat"].to_numpy()
    found = (every[row] == wanted) & (repeat < len(rows))
    places = np.full(len(wanted), -1, np.int64)
    for one in np.unique(repeat[found]):
        here = np.flatnonzero(found & (repeat == one))
        at = np.minimum(np.searchsorted(rows[one], row[here]), len(rows[one]) - 1)
        places[here] = np.where(rows[one][at] == row[here], starts[one] + at, -1)
    return places
