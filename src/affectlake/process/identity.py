"""Identification of processes by their ID, the PID namespace in which it is valid, and their start time."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def place() -> str:
    """Return an identifier of the scope in which process IDs are valid: this boot and this PID namespace.

    If the system does not provide these, it is the name of the machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def process_started(pid: int) -> str:
    """Return the start time of process `pid` in kernel ticks; empty if unknown, ``gone`` if it does not exist."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return ""  # /proc belongs to another PID namespace, in which the numbers mean other processes
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "gone" if fields[0] == "Z" else fields[19]
