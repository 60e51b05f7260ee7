"""Run the page "your first real model in ten minutes" in a folder, as a reader would.

python -m tests.model.first_model FOLDER
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-model.md"
_BLOCK = re.compile(r"```(sh|yaml)\n(.*?)```", re.DOTALL)


def run_page(folder: Path) -> list[str]:
    """Run the page's commands in an empty folder, apply its YAML to ``params.yaml``; return what each command printed.

    The first YAML block is the whole section ``agents``; later ones change keys of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # as in a shell: the programs of this environment, and no import from the repository
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env.pop("PYTHONPATH", None)
    said = []
    for language, text in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "yaml":
            change(folder / "study/params.yaml", yaml.safe_load(text))
            continue
        print("\n".join(f"$ {line}" for line in text.strip().splitlines()), flush=True)
        with subprocess.Popen(
            ["bash", "-ec", text], cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as running:
            assert running.stdout is not None
            lines = []
            for line in running.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        print()
        if running.returncode:
            raise SystemExit(f"exit status {running.returncode}")
        said.append("".join(lines))
    return said


def change(path: Path, sections: dict[str, Any]) -> None:
    """Put sections into ``params.yaml``; of agents, all of them, or changes to those that are there."""
    raw, agents = yaml.safe_load(path.read_text(encoding="utf-8")), sections.pop("agents")
    if all("kind" in entry for entry in agents.values()):
        raw["agents"] = agents
    for name, entry in agents.items():
        raw["agents"][name] |= entry
    path.write_text(yaml.safe_dump(raw | sections, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
