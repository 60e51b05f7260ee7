"""Request keys: the hash of everything that is asked. The key of a question never changes.

The key of a request is the SHA-256 of its canonical JSON (keys sorted, no blanks, ASCII)::

    {"asked": {"model", "protocol", "revision", "sampling"},
     "repeat": 0,
     "shown": [["0001.mp4", "SHA-256 of the caption or frames shown"], …],
     "trial_set": "main"}

The protocol's wording is represented by its version. Stimuli are identified by their ids, so that a key keeps its
meaning when the catalogue changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from affectlake.judge.chat import ChatAgent
from affectlake.judge.trials.content import Materials


def canonical(value: object) -> str:
    """Return `value` as canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


class KeyMaker:
    """Maker of the keys of one agent's questions from one trial set.

    Parameters
    ----------
    agent : ChatAgent
        The agent, with its settings.
    trial_set : str
        The trial set.
    materials : Materials
        The content of the stimuli.
    """

    def __init__(self, agent: ChatAgent, trial_set: str, materials: Materials) -> None:
        self._head = hashlib.sha256(f'{{"asked":{canonical(agent.identity())},"repeat":'.encode())
        self._tail = f'],"trial_set":{canonical(trial_set)}}}'.encode()
        self._shown = [
            [canonical([name, digest]).encode() for digest in digests]
            for name, digests in zip(materials.stimulus_ids, materials.digests, strict=True)
        ]

    def keys(
        self, in_order: NDArray[np.int32], options: NDArray[np.int16], repeat: NDArray[np.int16]
    ) -> Iterator[bytes]:
        """Yield the key (32 bytes) of each request.

        Parameters
        ----------
        in_order : int32 (m, 3)
            Stimuli in the order shown.
        options : int16 (m, 3)
            ``caption_index`` of the caption of each; 0 for videos.
        repeat : int16 (m,)
            Number of the repeat, from 0.

        Raises
        ------
        IndexError
            If a stimulus or caption is not in the materials.
        """
        shown, head, tail = self._shown, self._head, self._tail
        for (a, b, c), (x, y, z), r in zip(in_order.tolist(), options.tolist(), repeat.tolist(), strict=True):
            digest = head.copy()
            digest.update(b'%d,"shown":[%b,%b,%b%b' % (r, shown[a][x], shown[b][y], shown[c][z], tail))
            yield digest.digest()

    def has(self, in_order: NDArray[np.int32], options: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Return, for each request, whether every caption or video that it shows is in the materials."""
        sizes = np.array([len(some) for some in self._shown], dtype=np.int64)
        known = (in_order >= 0) & (in_order < len(sizes))
        within = options < sizes[np.where(known, in_order, 0)]
        return np.asarray((known & within & (options >= 0)).all(axis=1))


def request_seed(base: int | None, key: bytes) -> int | None:
    """Return a request's seed (31 bits), derived from the agent's seed and the key; None if the agent has no seed."""
    if base is None:
        return None
    return (base + int.from_bytes(key[:4], "big")) % 2**31
