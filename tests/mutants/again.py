"""The recomputed tables under a mutant, without a new lake: steps whose code is mutated run again, and what follows.

The test run of a mutant has no time to build a lake. It reads one that the unchanged code built, and makes the tables
again that depend on the mutated code.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from tests.mutants.reached import Reached


def downstream(steps: Iterable[str]) -> tuple[tuple[str, ...], set[str]]:
    """Return some steps and those that read what they write, in reading order, and the tables that they write."""
    from affectlake.pipelines.catalogue import STEPS

    found, tables = set(steps), set[str]()
    for step in STEPS.values():
        if step.name in found or tables & {output.table for output in step.reads}:
            found.add(step.name)
            tables |= {output.table for output in step.writes}
    return tuple(name for name in STEPS if name in found), tables


def install(folder: Path, steps: Iterable[str] | None, reached: Reached | None = None) -> set[str]:
    """Let the tests of recomputed tables use the built lake in `folder`.

    Parameters
    ----------
    folder : Path
        Its ``demo`` is the lake; ``altered.pickle`` holds the altered tables that the unchanged code makes of it.
    steps : iterable of str or None
        The steps whose code is mutated. None: run all of them, and write ``altered.pickle``.
    reached : Reached, optional
        Records the functions that each step reaches, as ``step:NAME``.

    Returns
    -------
    set of str
        The tables that are made again.
    """
    from affectlake.pipelines.catalogue import STEPS
    from affectlake.pipelines.engine.graph import stages
    from affectlake.pipelines.stored import NOTHING
    from tests.support import demo_lakes
    from tests.support.recomputed import world

    again, tables = downstream(STEPS if steps is None else steps)
    plain, make, kept = world.published, world.made_again, folder / "altered.pickle"
    demo_lakes.one_version = lambda: folder / "demo"

    def each(found: world.World, names: Iterable[str], scratch: Path) -> world.World:
        in_study = list(stages(found.params, NOTHING).values())
        for name in names:
            agents = [one.agent for one in in_study if one.step.name == name]
            assert agents, f"the study does not have the step {name}"
            with reached.within(f"step:{name}") if reached else contextlib.nullcontext():
                made = make(found, (name,), scratch).tables
            for output in STEPS[name].writes:
                if output.partition:  # those of other agents are made by other steps
                    others = found.tables[output.table].filter(~pl.col("agent").is_in(agents))
                    made[output.table] = pl.concat([made[output.table], others])
            found = world.World(made, found.params)
        return found

    def published() -> world.World:
        found = plain()
        scratch = Path(tempfile.mkdtemp())
        in_study = {one.step.name for one in stages(found.params, NOTHING).values()}
        names = [name for name in again if name in in_study]
        for name in {table for step in names for table in _touched(STEPS[step])} - found.tables.keys():
            found.tables[name] = _stored(folder / "demo", name)
        return each(found, names, scratch)

    def made_again(found: world.World, names: tuple[str, ...], scratch: Path) -> world.World:
        if steps is None:
            made = each(found, names, scratch)
            kept.write_bytes(pickle.dumps(made.tables))
            return made
        stored = pickle.loads(kept.read_bytes())  # noqa: S301 (written by this program)
        written = {output.table for name in names for output in STEPS[name].writes}
        unchanged = {name: frame for name, frame in stored.items() if name in written}
        start = world.World(found.tables | unchanged, found.params)
        return each(start, [name for name in names if name in again], scratch)

    world.published, world.made_again = published, made_again
    return tables


def _touched(step: object) -> set[str]:
    return {output.table for output in (*step.reads, *step.writes)}  # type: ignore[attr-defined]


def _stored(lake: Path, name: str) -> object:
    import affectlake

    return affectlake.open(lake).table(name).collect()
