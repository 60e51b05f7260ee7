"""An environment with the packages that `pip install` of a wheel brings without extras, made without a network."""

from __future__ import annotations

import sys
import venv
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.conftest import ask


def required(wheel: Path) -> dict[str, Distribution]:
    """Return the distributions that a wheel requires without extras, with all that those require, by name.

    They are those that are installed here, as ``requirements.lock`` pins them.
    """
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(file.read(name).decode())
    return resolved(metadata.get_all("Requires-Dist") or [])


def resolved(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Return the installed distributions that meet requirements, with all that those require, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(one), {""}) for one in requirements]
    while waiting:
        one, extras = waiting.pop()
        wanted = any(one.marker is None or one.marker.evaluate({"extra": extra}) for extra in extras)
        name = canonicalize_name(one.name)
        if not wanted or name in found:
            continue
        found[name] = distribution(name)
        waiting += [(Requirement(line), {"", *one.extras}) for line in found[name].requires or []]
    return found


def reader(folder: Path, wheel: Path) -> Path:
    """Make an environment that has the wheel, and links to what it requires without extras; return its commands."""
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for one in required(wheel).values():
        for name in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not name.endswith(".pth") and not (packages / name).exists():
                (packages / name).symlink_to(Path(str(one.locate_file(name))))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin/python")
    ask(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, at=folder)
    return folder / "bin"
