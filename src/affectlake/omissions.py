"""What a new table, step, kind of agent or figure still lacks and no generated file can supply.

``make docs`` prints it, and a test requires that nothing is left.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from affectlake.judge.agents import EVERY_KIND
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables import factory
from affectlake.lake.tables.contracts import contracts
from affectlake.pipelines import steps
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.step import AGENT, Step
from affectlake.pipelines.stored import GROWING, PROPOSED, SESSIONS

COLLECTED = (GROWING, PROPOSED, SESSIONS)
"""Tables that no step writes, because they are collected."""

_CHOICES = Output("choices", AGENT)
_FIGURE = re.compile(r"^\| `(\w+)`", re.MULTILINE)  # a row of the table of figures


def omissions(root: Path) -> list[str]:
    """Return one line for each thing that is missing: what it is, and what to do.

    Parameters
    ----------
    root : Path
        The repository, whose documents are read.
    """
    return [*_of_steps(), *_of_tables(), *_of_kinds(), *_of_figures(root)]


def _of_steps() -> Iterator[str]:
    for found in pkgutil.iter_modules(steps.__path__):
        module = import_module(f"{steps.__name__}.{found.name}")
        for name, value in vars(module).items():
            is_own = isinstance(value, Step) and value.function.__module__ == module.__name__
            if is_own and STEPS.get(name) is not value:
                yield f"the step {name} is not in the catalogue: add {found.name}.{name} to pipelines/catalogue.py"


def _of_tables() -> Iterator[str]:
    written = {output.table for step in STEPS.values() for output in step.writes}
    rows = factory.tiny_lake()
    for table in contracts():
        if table not in rows:
            yield f"the table {table} has no example rows: add some to src/affectlake/lake/tables/factory.py"
        if table not in written and table not in COLLECTED:
            yield f"no step writes the table {table}: name it in the `writes` of one in pipelines/steps/"


def _of_kinds() -> Iterator[str]:
    from affectlake.report.page import KINDS

    answered = {kind for step in STEPS.values() if _CHOICES in step.writes for kind in step.kinds}
    for kind in EVERY_KIND:
        if kind not in answered:
            yield f"no step writes the choices of agents of kind {kind}: add one with kinds=({kind!r},)"
        if kind not in KINDS:
            yield f"the report has no name for agents of kind {kind}: add one to KINDS in src/affectlake/report/page.py"


def _of_figures(root: Path) -> Iterator[str]:
    from affectlake.report.figures.catalogue import FIGURES

    described = set(_FIGURE.findall((root / "docs/figures.md").read_text(encoding="utf-8")))
    for entry in FIGURES:
        if entry.name not in described:
            yield f"the figure {entry.name} is not described: add a row to the table in docs/figures.md"
