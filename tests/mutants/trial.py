"""One test run in a fork: of the unchanged code, to record what each test reaches, or of a mutant."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest

from tests.mutants import again
from tests.mutants.reached import Reached

OPTIONS = ("-q", "-p", "no:cacheprovider", "--tb=short", "-m", "not slow and not soak and not realdata")
MEMORY = 24 << 30
"""Bytes of address space of a test run; a mutant that asks for more is killed by the error."""


class Plan(NamedTuple):
    """What the trial of a mutant runs: the module, its source, tests by file in their order, and steps to run again."""

    module: str
    source: str
    tests: dict[str, list[str]]
    steps: list[str]


class _Loader(importlib.machinery.SourceFileLoader):
    """Load a module from another text. Its code has the path of the text, so that Numba compiles it anew."""

    def __init__(self, name: str, path: str, text: Path) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, _fullname: str) -> CodeType:
        return compile(self.text.read_bytes(), str(self.text), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Find one module in another text."""

    def __init__(self, module: str, text: Path) -> None:
        self.module, self.text = module, text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert found is not None and found.origin is not None
        return importlib.util.spec_from_loader(
            fullname, _Loader(fullname, found.origin, self.text), origin=found.origin
        )


class _Chosen:
    """Run the tests of a plan alone, in its order, and remember the first failure."""

    def __init__(self, tests: dict[str, list[str]], tables: set[str]) -> None:
        self.order = {name: at for at, name in enumerate(name for names in tests.values() for name in names)}
        self.tables = tables
        self.failure: dict[str, Any] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(filter(self._is_chosen, items), key=lambda item: self.order[item.nodeid])

    def _is_chosen(self, item: pytest.Item) -> bool:
        """Return whether the plan has the test; of the recomputed tables, only those that were made again."""
        of_table = item.name.startswith("test_every_row_is_recomputed[")
        return item.nodeid in self.order and not (of_table and item.name[:-1].rpartition("-")[2] not in self.tables)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failure:
            self.failure = {"by": report.nodeid, "how": "import", "why": str(report.longrepr)[-300:]}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if report.failed and not self.failure and call.excinfo is not None:
            kind = "assertion" if call.excinfo.errisinstance((AssertionError, pytest.fail.Exception)) else "error"
            why = f"{call.excinfo.typename}: {call.excinfo.value}"
            self.failure = {"by": item.nodeid, "how": kind, "why": why[:300]}
        return report


def record(out: Path, root: Path, packages: tuple[str, ...], files: list[str]) -> None:
    """Run the tests of the unchanged code, and write what each of them reaches to ``reached.json``."""
    reached = Reached(root, packages)
    again.install(out, None, reached)
    status = pytest.main([*OPTIONS, f"--basetemp={_folder(out)}", *files], plugins=[reached])
    found = {"seconds": reached.seconds, "by": {name: sorted(names) for name, names in reached.by.items()}}
    (out / "reached.json").write_text(json.dumps(found, indent=1))
    sys.exit(status)


def try_mutant(out: Path, plan: Plan, answer: Path) -> None:
    """Run the tests of a plan until one fails, and write the failure, or an empty object, to `answer`."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder = _folder(out)
    text = folder.parent / f"{plan.module.rpartition('.')[2]}.py"
    text.write_text(plan.source, encoding="utf-8")
    sys.meta_path.insert(0, _Finder(plan.module, text))
    try:
        tables = again.install(out, plan.steps)
    except Exception as error:
        answer.write_text(json.dumps({"by": "", "how": "import", "why": repr(error)[:300]}))
        return
    chosen = _Chosen(plan.tests, tables)
    status = pytest.main([*OPTIONS, "-x", f"--basetemp={folder}", *plan.tests], plugins=[chosen])
    if status not in (0, 1, 5) and not chosen.failure:
        chosen.failure = {"by": "", "how": "import", "why": f"pytest ended with {status}"}
    answer.write_text(json.dumps(chosen.failure))


def _folder(out: Path) -> Path:
    """Return a new folder for the temporary files of this process."""
    parent = out / "tmp" / str(os.getpid())
    parent.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(parent)
    return parent / "pytest"
