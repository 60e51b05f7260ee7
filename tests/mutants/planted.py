"""The mutants: a random sample of all, or the mistakes that are planted by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import operators

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("src/affectlake/geometry", "src/affectlake/brain", "src/affectlake/spose", "pipelines/steps")
NEEDS_A_GPU = ("src/affectlake/spose/gpu.py", "src/affectlake/brain/searchlight/gpu.py")
"""Modules that are left out, as their tests are skipped without a GPU."""


@dataclass(frozen=True)
class Mutant:
    """A mutant: its file, line and kind, the text before and after, and the mutated source."""

    path: str
    line: int
    kind: str
    before: str
    after: str
    source: str

    @property
    def package(self) -> str:
        return next(one for one in PACKAGES if self.path.startswith(one))

    @property
    def module(self) -> str:
        return "affectlake." + self.path.removeprefix("src/affectlake/").removesuffix(".py").replace("/", ".")


def all_sites(only: tuple[str, ...]) -> Iterator[tuple[str, str, operators.Site]]:
    """Yield the path, the source and the site of every mutant."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            if path not in NEEDS_A_GPU and path.startswith(only or ""):
                source = file.read_text(encoding="utf-8")
                yield from ((path, source, site) for site in operators.sites(source))


def sample(n: int, seed: int, only: tuple[str, ...]) -> list[Mutant]:
    """Return a random sample of `n` mutants; that of a smaller `n` is its beginning."""
    rng = random.Random(seed)
    every = list(all_sites(only))
    rng.shuffle(every)
    found = []
    for path, source, site in every:
        if len(found) == n:
            break
        chosen = operators.chosen(source, site, rng)
        if chosen is not None:
            before = source.encode()[site.start : site.end].decode()
            found.append(Mutant(path, site.line, site.kind, before, *chosen))
    return found


def wiring() -> list[Mutant]:
    """Return the mistakes that are planted by hand."""
    import yaml

    found = []
    for name, (path, before, after) in yaml.safe_load(Path(__file__).with_name("wiring.yaml").read_text()).items():
        source = (ROOT / path).read_text(encoding="utf-8")
        if source.count(before) != 1:
            raise ValueError(f"wiring.yaml: {name}: {path} has {source.count(before)} of its text; change the text")
        line = source[: source.index(before)].count("\n") + 1 + before.lstrip("\n").count("\n") // 2
        found.append(Mutant(path, line, name, before, after, source.replace(before, after)))
    return found
