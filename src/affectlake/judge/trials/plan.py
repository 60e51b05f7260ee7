"""Which questions are still to be asked of an agent, and in which order: a trial set minus what is answered.

Trials stay in arrays, some 40 bytes each; a question becomes an object when it is asked for. Asking does not belong
here.

A trial is *answered* if a stored answer to it is one to the question as it would be asked today: same model, revision,
protocol and sampling, and the same captions or frames of the same stimuli, in whatever order they were shown. Each
stored answer is checked by its key; so what was asked of another model, or of a catalogue that has changed, is not
taken for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols import Wording
from affectlake.judge.trials.caption_draw import draw_captions
from affectlake.judge.trials.content import Materials
from affectlake.judge.trials.orders import ORDERS, balanced_orders, shown
from affectlake.judge.trials.questions import Question
from affectlake.judge.trials.request_keys import KeyMaker, request_seed
from affectlake.judge.trials.shares import Share
from affectlake.seeds import generator
from affectlake.triplets import pack

BLOCK = 100_000
"""Questions that are drawn at random from those left and then sorted so that neighbours share a prefix.

The larger, the longer the shared runs; the smaller, the more evenly a collection that stops early covers the set.
"""

SLICE = 4_096
"""Questions that are put into words at a time."""

SHOWN = ["shown_1", "shown_2", "shown_3"]
CAPTIONS = ["caption_1", "caption_2", "caption_3"]


class Trials(NamedTuple):
    """A set of trials.

    Attributes
    ----------
    trial_set : str
        Its name.
    triplets : int32 (m, 3)
        Canonical: rows i < j < k, sorted, none twice.
    n_repeats : int16 (m,)
        How many answers each wants.
    """

    trial_set: str
    triplets: NDArray[np.int32]
    n_repeats: NDArray[np.int16]


@dataclass(frozen=True)
class Plan:
    """What is still to be asked.

    Parameters
    ----------
    agent : ChatAgent
        Who is asked.
    trials : Trials
        The trial set.
    materials : Materials
        What is shown.
    n_planned : int
        Answers that the set wants.
    n_unaskable : int
        Those of them for which a stimulus has no caption or no frames.
    n_answered : int
        Those that are there already.
    n_open : int
        Those that may be asked now, whether this plan holds them or its limit leaves them out.
    row : int32 (n_left,)
        Row of the triplet of each question left, in the order of asking.
    repeat : int16 (n_left,)
        Which asking of the triplet it is.
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
        """How many questions :meth:`questions` yields."""
        return len(self.row)

    def part(self, start: int, end: int) -> Plan:
        """Return the plan of the questions from `start` to before `end`, in the order of asking."""
        some = slice(start, end)
        return replace(self, row=self.row[some], repeat=self.repeat[some], order_code=self.order_code[some])

    def questions(self, block: int = BLOCK) -> Iterator[Question]:
        """Yield the questions left, block by block, neighbours in a block sharing the first stimuli shown.

        Parameters
        ----------
        block : int
            Questions in a block.
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
        """Return the stimuli in the order shown and the caption of each, (m, 3) both."""
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
) -> Plan:
    """Plan what is still to be asked.

    Parameters
    ----------
    agent : ChatAgent
        Who is asked.
    trials : Trials
        The trial set.
    materials : Materials
        What is shown, in the agent's modality.
    root : int
        The study's root seed. Orders, captions and the order of asking follow from it, the agent's name and the name
        of the trial set.
    answered : iterable of polars.DataFrame
        Rows of the agent's responses that are not to be asked again, in pieces of any size: ``request_key, trial_set,
        i, j, k, repeat, shown_1 … shown_3, caption_1 … caption_3``. Those that do not fit are passed over.
    limit : int, optional
        Plan at most so many questions: a random part of those left.
    among : iterable of polars.DataFrame, optional
        Plan only what these rows of the agent's responses were to, such as those that failed.
    proposed : polars.DataFrame, optional
        Plan only the first asking of these triplets, columns ``i, j, k``.
    share : Share, optional
        Plan, and count, only the questions of this share.

    Returns
    -------
    Plan
    """
    n_stimuli = len(materials.stimulus_ids)
    askable = (materials.n_options > 0)[trials.triplets].all(axis=1)  # (m,)
    repeats = np.where(askable, trials.n_repeats, 0).astype(np.int16)
    rows, order_codes = _orders(trials, repeats, n_stimuli, root, agent.name)
    starts = np.cumsum([0, *(len(some) for some in rows)], dtype=np.int64)
    maker = KeyMaker(agent, trials.trial_set, materials)

    def marked(frames: Iterable[pl.DataFrame]) -> NDArray[np.bool_]:
        found = np.zeros(starts[-1], dtype=np.bool_)
        for frame in frames:
            valid = valid_answers(frame, maker, trials.trial_set)
            found[_places(valid, trials, n_stimuli, rows, starts)] = True
        return found

    own = _of_share(share, trials.triplets, rows)
    done = marked(answered) & own
    open_ = ~done & own if among is None else ~done & own & marked(among)
    if proposed is not None:
        first = proposed.select("i", "j", "k", repeat=pl.lit(0, dtype=pl.Int16))
        chosen = np.zeros(len(done), dtype=np.bool_)
        chosen[_places(first, trials, n_stimuli, rows, starts)] = True
        open_ &= chosen
    wanted = [np.flatnonzero(trials.n_repeats > repeat) for repeat in range(int(trials.n_repeats.max(initial=0)))]
    n_planned = int(_of_share(share, trials.triplets, wanted).sum())
    left = generator(root, "schedule", agent.name, trials.trial_set).permutation(np.arange(len(done), dtype=np.int32))
    left = left[open_[left]][:limit]
    return Plan(
        agent=agent,
        trials=trials,
        materials=materials,
        n_planned=n_planned,
        n_unaskable=n_planned - int(own.sum()),
        n_answered=int(done.sum()),
        n_open=int(open_.sum()),
        row=np.concatenate(rows)[left] if rows else np.empty(0, np.int32),
        repeat=(np.searchsorted(starts, left, side="right") - 1).astype(np.int16),
        order_code=np.concatenate(order_codes)[left] if order_codes else np.empty(0, np.uint8),
        caption_seed=int(generator(root, "captions", agent.name, trials.trial_set).integers(2**63)),
    )


def valid_answers(frame: pl.DataFrame, maker: KeyMaker, trial_set: str) -> pl.DataFrame:
    """Return the rows of a trial set whose key is that of the question as it would be asked today.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of the responses; see :func:`make_plan` for the columns.
    maker : KeyMaker
        Makes the keys of the agent, trial set and materials of today.
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
    trials: Trials, repeats: NDArray[np.int16], n_stimuli: int, root: int, agent: str
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.uint8]]]:
    """Return, for each repeat, the rows asked and their order codes: each repeat is balanced by itself."""
    rows, order_codes = [], []
    for repeat in range(int(repeats.max(initial=0))):
        asked = np.flatnonzero(repeats > repeat).astype(np.int32)
        rng = generator(root, "orders", agent, trials.trial_set, repeat)
        rows.append(asked)
        order_codes.append(balanced_orders(trials.triplets[asked], n_stimuli, rng))
    return rows, order_codes


def _of_share(
    share: Share | None, triplets: NDArray[np.int32], rows: Sequence[NDArray[np.integer]]
) -> NDArray[np.bool_]:
    """Return which questions fall to a share (every one without): `rows` of `triplets` for each repeat, one by one."""
    if share is None or not rows:
        return np.ones(sum(len(some) for some in rows), dtype=np.bool_)
    return np.concatenate([share.takes(triplets[some], repeat) for repeat, some in enumerate(rows)])


def _places(
    answers: pl.DataFrame, trials: Trials, n_stimuli: int, rows: list[NDArray[np.int32]], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where the answered trials stand among all that are asked; those of no trial are left out."""
    if answers.is_empty() or not rows:
        return np.empty(0, np.int64)
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
    return places[places >= 0]
