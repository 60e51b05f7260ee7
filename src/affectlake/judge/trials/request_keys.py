"""What identifies a request: the hash of everything that was asked. The same question has the same key for ever.

The key of a request is the SHA-256 of its canonical JSON (keys sorted, no blanks, ASCII)::

    {"asked": {"model", "protocol", "revision", "sampling"},
     "repeat": 0,
     "shown": [["0001.mp4", "SHA-256 of the caption or frames shown"], …],
     "trial_set": "main"}

The protocol's version stands for its words. Stimuli go by id, so that a key never means another stimulus when the
catalogue changes.
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
    """Makes the keys of one agent's questions from one trial set.

    Parameters
    ----------
    agent : ChatAgent
        Who is asked, and how.
    trial_set : str
        The set of trials.
    materials : Materials
        What is shown.
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
            Which caption of each is shown; 0 for videos.
        repeat : int16 (m,)
            Which asking of the trial it is.

        Raises
        ------
        IndexError
            A stimulus or caption that the materials do not have.
        """
        shown, head, tail = self._shown, self._head, self._tail
        for (a, b, c), (x, y, z), r in zip(in_order.tolist(), options.tolist(), repeat.tolist(), strict=True):
            digest = head.copy()
            digest.update(b'%d,"shown":[%b,%b,%b%b' % (r, shown[a][x], shown[b][y], shown[c][z], tail))
            yield digest.digest()

    def has(self, in_order: NDArray[np.int32], options: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Return, for each request, whether the materials have every caption or video that it shows."""
        sizes = np.array([len(some) for some in self._shown], dtype=np.int64)
        known = (in_order >= 0) & (in_order < len(sizes))
        within = options < sizes[np.where(known, in_order, 0)]
        return np.asarray((known & within & (options >= 0)).all(axis=1))


def request_seed(base: int | None, key: bytes) -> int | None:
    """Return a request's own seed (31 bits), made of the agent's and the key; None where the agent has none."""
    if base is None:
        return None
    return (base + int.from_bytes(key[:4], "big")) % 2**31
