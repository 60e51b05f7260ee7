"""Publishes an agent's answers as a process of its own, and is killed before or after a step.

python tests/attacks/publishing_process.py LAKE MODULE OBJECT STEP before|after
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from affectlake.pipelines.collection.publishing import publish_waiting

if __name__ == "__main__":
    lake, module, name, step, when = sys.argv[1:]
    owner = import_module(module) if name == "-" else getattr(import_module(module), name)
    whole = getattr(owner, step)

    def cut_off(*values: Any, **more: Any) -> Any:
        if when == "after":
            whole(*values, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, step, cut_off)
    publish_waiting(Path(lake), "tiny", lambda _line: None)
