"""Which process is meant by a number: a process ID counts only with where it is valid and when the process started."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def place() -> str:
    """Return where the numbers of processes mean what they mean here: this start of this machine, this PID namespace.

    Where the system does not say, it is the machine's name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def process_started(pid: int) -> str:
    """Return when process `pid` of this place started, in the kernel's ticks; empty if unknown, ``gone`` if none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return ""  # /proc is that of another PID namespace: its numbers are other processes
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "gone" if fields[0] == "Z" else fields[19]
