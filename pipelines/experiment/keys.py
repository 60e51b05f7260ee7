"""The key with which ids of a panel are hashed, so that a participant is recognised and the id is not stored."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from affectlake.errors import UsageError
from affectlake.pipelines.experiment.entry import folder_of

VARIABLE = "AFFECTLAKE_PARTICIPANT_KEY"
FILE = "participant.key"
LEAST = 16
_BYTES = 32


def participant_key(lake: Path, name: str) -> bytes:
    """Return the key of an agent: that of the environment, or that of a file which is made at the first use.

    The file is ``storage/collecting/AGENT/participant.key``, which Git ignores and only its owner can read. Without it,
    participants of a panel who come back are not recognised.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    name : str
        Name of the agent.

    Raises
    ------
    UsageError
        If the key in the environment or in the file has fewer than 16 characters.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _checked(given.strip().encode(), f"the environment variable {VARIABLE}")
    path = folder_of(lake, name) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(_BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
    return _checked(path.read_bytes().strip(), str(path))


def _checked(key: bytes, where: str) -> bytes:
    if len(key) < LEAST:
        raise UsageError(
            f"{where} is too short to be a key",
            wanted=f"at least {LEAST} characters, drawn at random",
            found=f"{len(key)}",
        )
    return key
