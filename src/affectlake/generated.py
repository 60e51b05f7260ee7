"""Generated files. ``make docs`` writes them, and a test checks that they are up to date.

With ``--check`` nothing is written, and stale files are an error. This does not check the fingerprints, which take
longer than all other files together and are checked by a test.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from affectlake.cli import reference
from affectlake.lake import repository
from affectlake.lake.tables import dictionary
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine import dvcfile, fingerprints
from affectlake.pipelines.params import schema, templates
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.stored import NOTHING

ROOT = Path(__file__).resolve().parents[2]


def _steps() -> str:
    lines = [
        "# Steps",
        "",
        "Generated from `pipelines/catalogue.py` and `pipelines/steps/` by `make docs`; edit those, not this page.",
        "",
    ]
    lines += ["```mermaid", "flowchart LR"]
    for step in STEPS.values():
        lines += [f"  {output.table} --> {step.name}[[{step.name}]]" for output in step.reads]
        lines += [f"  {step.name}[[{step.name}]] --> {output.table}" for output in step.writes]
    lines += [
        "```",
        "",
        "| step | does | for | reads | writes | parameters | version |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in STEPS.values():
        looking = f" that are shown {step.modality}" if step.modality else ""
        whom = f"agents of kind {', '.join(step.kinds)}{looking}" if step.kinds else "the study"
        cells = (step.name, step.summary, whom)
        names = (", ".join(f"`{name}`" for name in names) for names in (step.reads, step.writes, step.params))
        lines.append("| " + " | ".join((*cells, *names, str(step.version))) + " |")
    return "\n".join([*lines, ""])


def _params() -> str:
    return templates.starting_params("emotion")


def _pipeline() -> str:
    return dvcfile.render(parse(_params()), NOTHING)


def _fingerprints() -> str:
    return json.dumps(fingerprints.current(), indent=2) + "\n"


FILES: dict[str, Callable[[], str]] = {
    "docs/cli.md": reference.render,
    "docs/tables.md": dictionary.render,
    "docs/steps.md": _steps,
    "storage/README.md": lambda: repository.README,
    "params.yaml": _params,
    "dvc.yaml": _pipeline,
    f"pipelines/params/{schema.FILE}": schema.render,
    "pipelines/engine/fingerprints.json": _fingerprints,
}
SLOW = ("pipelines/engine/fingerprints.json",)


def stale(without: tuple[str, ...] = ()) -> list[str]:
    """Return the generated files that are not up to date; those in `without` are not checked."""
    return [name for name, make in FILES.items() if name not in without and not _is(ROOT / name, make())]


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main(arguments: list[str] | None = None) -> None:
    """Write every stale file, and print the steps whose code changed but whose version did not."""
    if "--check" in (sys.argv[1:] if arguments is None else arguments):
        found = stale(SLOW)
        sys.exit(f"stale: {', '.join(found)}\n  to do: make docs" if found else 0)
    for step in fingerprints.unversioned():
        print(f"the code of {step} changed, but its version did not: raise the version if its outputs change")
    for name in stale():
        (ROOT / name).write_text(FILES[name](), encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
