"""The graph of the stages of a study, drawn: one box for each step, with the states of its stages.

Boxes are in rows: each is below all whose tables it reads. Arrows that follow from others are left out. The graph is
never drawn smaller than its texts can be read; on a phone, the list of steps takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup

from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import Manifest, outs_of
from affectlake.pipelines.catalogue import STEPS

WIDTH, HEIGHT = 172, 46
_GAP_X, _GAP_Y, _EDGE, _PASSAGE = 16, 40, 6, 10


class Stage(NamedTuple):
    """A stage: its name, whether it is to run (None: not known), its tables, and what it does."""

    name: str
    is_stale: bool | None
    reads: frozenset[str]
    writes: frozenset[str]
    does: str

    @property
    def step(self) -> str:
        """Name of its step."""
        return self.name.partition("@")[0]


@dataclass
class Box:
    """A step, with its stages, the steps from which arrows lead to it, and its place in the drawing."""

    step: str
    does: str
    stages: list[Stage] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    x: int = 0
    y: int = 0

    @property
    def n_stale(self) -> int | None:
        """Number of its stages that are to run; None if that is not known."""
        known = [one.is_stale for one in self.stages if one.is_stale is not None]
        return sum(known) if known else None

    @property
    def state(self) -> str:
        """Its state in words."""
        n, stale = len(self.stages), self.n_stale
        stages = "1 stage" if n == 1 else f"{n} stages"
        if stale is None:
            return stages
        if not stale:
            return "✓ up to date" if n == 1 else f"✓ {stages} up to date"
        return "● to run" if n == 1 else f"● {stale} of {stages} to run"


@dataclass
class Arrow:
    """An arrow from a step to one that reads its tables, and the upper ends of its passages through rows between."""

    start: Box
    end: Box
    through: list[tuple[int, int]] = field(default_factory=list)

    @property
    def x(self) -> int:
        """Where it leaves the last row in which it has a place."""
        return self.through[-1][0] if self.through else self.start.x + WIDTH // 2


def recorded(manifest: Manifest) -> list[Stage]:
    """Return the stages with which a version was made, from its ``dvc.lock``."""
    found = []
    for name, entry in manifest.stages.items():
        step = name.partition("@")[0]
        deps = entry.get("deps") or []
        reads = _tables(str(one.get("path")) for one in deps if isinstance(one, Mapping))
        writes = _tables(str(one.get("path")) for one in outs_of(entry))
        if reads or writes:
            found.append(Stage(name, None, reads, writes, STEPS[step].summary if step in STEPS else ""))
    return found


def _tables(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(output.table for path in paths if (output := Output.at(path)) is not None)


def boxes_of(stages: Iterable[Stage]) -> tuple[list[Box], list[Arrow]]:
    """Return the steps of stages, placed, and the arrows between them."""
    boxes: dict[str, Box] = {}
    for stage in stages:
        boxes.setdefault(stage.step, Box(stage.step, stage.does)).stages.append(stage)
    writers: dict[str, set[str]] = {}
    for box in boxes.values():
        for table in {table for stage in box.stages for table in stage.writes}:
            writers.setdefault(table, set()).add(box.step)
    before = {
        box.step: {maker for stage in box.stages for table in stage.reads for maker in writers.get(table, ())}
        - {box.step}
        for box in boxes.values()
    }
    depth = _depths(before)
    above = {step: _all_before(step, before) for step in before}
    arrows = [
        Arrow(boxes[maker], boxes[step])
        for step, makers in before.items()
        for maker in sorted(makers)
        if not any(maker in above[other] for other in makers - {maker})
    ]
    for arrow in arrows:
        arrow.end.after.append(arrow.start.step)
    _place(list(boxes.values()), arrows, depth)
    return list(boxes.values()), arrows


def _place(boxes: list[Box], arrows: list[Arrow], depth: Mapping[str, int]) -> None:
    """Place boxes in rows, and between them passages of the arrows that cross a row, near what leads to them."""
    rows: list[list[Box | Arrow]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for box in boxes:
        rows[depth[box.step]].append(box)
    for arrow in arrows:
        for crossed in rows[depth[arrow.start.step] + 1 : depth[arrow.end.step]]:
            crossed.append(arrow)

    def width(one: Box | Arrow) -> int:
        return _GAP_X + (WIDTH if isinstance(one, Box) else _PASSAGE)

    def wanted(one: Box | Arrow) -> tuple[float, str]:
        if isinstance(one, Arrow):
            return one.x, one.end.step
        above = [arrow.x for arrow in arrows if arrow.end is one]
        return (sum(above) / len(above) if above else 0.0), one.step

    widths = [sum(map(width, row)) for row in rows]
    for at, row in enumerate(rows):
        x, y = _EDGE + (max(widths) - widths[at]) // 2, _EDGE + at * (HEIGHT + _GAP_Y)
        for one in sorted(row, key=wanted):
            if isinstance(one, Box):
                one.x, one.y = x, y
            else:
                one.through.append((x + _PASSAGE // 2, y))
            x += width(one)


def _depths(before: Mapping[str, set[str]]) -> dict[str, int]:
    found: dict[str, int] = {}

    def depth(step: str, seen: frozenset[str]) -> int:
        if step not in found:
            makers = before[step] - seen
            found[step] = 1 + max((depth(one, seen | {step}) for one in makers), default=-1)
        return found[step]

    for step in before:
        depth(step, frozenset())
    return found


def _all_before(step: str, before: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [*before[step]]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += before[one]
    return found


def drawing(stages: Iterable[Stage]) -> Markup:
    """Return the graph as an ``svg`` element; each box has a title with its stages, and is described in words."""
    boxes, arrows = boxes_of(stages)
    right = [box.x + WIDTH for box in boxes] + [x for arrow in arrows for x, _ in arrow.through]
    width = max(right, default=0) + _EDGE
    height = max((box.y for box in boxes), default=0) + HEIGHT + _EDGE
    opened = Markup(
        '<svg class="graph" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">'
    ).format(w=width, h=height, label=f"Graph of {len(boxes)} steps; the table below lists them")
    return opened + Markup("").join([*map(_arrow, arrows), *map(_box, boxes)]) + Markup("</svg>")


def _arrow(arrow: Arrow) -> Markup:
    x, y = arrow.start.x + WIDTH // 2, arrow.start.y + HEIGHT
    path = f"M{x},{y}"
    for next_x, next_y in [*arrow.through, (arrow.end.x + WIDTH // 2, arrow.end.y)]:
        path += f" C{x},{y + _GAP_Y // 2} {next_x},{next_y - _GAP_Y // 2} {next_x},{next_y} V{next_y + HEIGHT}"
        x, y = next_x, next_y + HEIGHT
    return Markup('<path class="arrow" d="{}"/>').format(path.rpartition(" ")[0])


def _box(box: Box) -> Markup:
    kind = {None: "unknown", 0: "current"}.get(box.n_stale, "stale")
    title = f"{box.step}: {box.does} ({box.state}: {', '.join(one.name for one in box.stages)})"
    return Markup(
        '<g class="box {kind}"><title>{title}</title><rect x="{x}" y="{y}" width="{w}" height="{h}" rx="5"/>'
        '<text x="{tx}" y="{ty}">{step}</text><text class="state" x="{tx}" y="{sy}">{state}</text></g>'
    ).format(
        kind=kind, title=title, x=box.x, y=box.y, w=WIDTH, h=HEIGHT, tx=box.x + 10, ty=box.y + 19, sy=box.y + 36,
        step=box.step, state=box.state,
    )  # fmt: skip
