"""Which functions of the mutated packages each test calls: a pytest plugin that traces calls."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest


class Reached:
    """Record calls by test, or by test file where a fixture or an import makes them, and how long each test takes.

    Parameters
    ----------
    root : Path
        The repository.
    packages : tuple of str
        Folders in it, whose functions are recorded.
    """

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self.root = root
        self.packages = tuple(str(root / one) for one in packages)
        self.by: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self._names: dict[CodeType, str | None] = {}
        self._within: list[str] = []

    def _name(self, code: CodeType) -> str | None:
        if code not in self._names:
            path = os.path.realpath(code.co_filename)
            known = path.startswith(self.packages)
            self._names[code] = f"{os.path.relpath(path, self.root)}:{code.co_firstlineno}" if known else None
        return self._names[code]

    def _trace(self, frame: FrameType, _event: str, _argument: object) -> None:
        name = self._name(frame.f_code)
        if name is not None:
            for one in self._within:
                self.by[one].add(name)

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Record calls under a name too while the block runs."""
        self._within.append(name)
        sys.settrace(self._trace)
        threading.settrace(self._trace)
        try:
            yield
        finally:
            self._within.pop()
            if not self._within:
                sys.settrace(None)
                threading.settrace(None)  # type: ignore[arg-type]

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        with self.within(collector.nodeid.partition("::")[0]):
            return (yield)  # type: ignore[return-value]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        with self.within(item.nodeid.partition("::")[0]):
            return (yield)  # type: ignore[return-value]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with self.within(item.nodeid):
            return (yield)  # type: ignore[return-value]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.skipped:
            self.seconds[report.nodeid] += report.duration
