"""The source files of the package as syntax trees, with the definitions and imports of each module.

No module is imported.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from affectlake.pipelines.engine.syntax import is_for_readers, parsed

PACKAGE = "affectlake"
ROOT = Path(str(files(PACKAGE))).resolve().parent


class Sources:
    """The source files of a package.

    Parameters
    ----------
    root : Path
        Folder that contains the package.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._paths: dict[str, Path | None] = {}
        self._texts: dict[Path, str] = {}

    def path(self, module: str) -> Path | None:
        """Return the file of a module; None if there is none."""
        if module not in self._paths:
            stem = self._root.joinpath(*module.split("."))
            places = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
            self._paths[module] = next((place for place in places if place.is_file()), None)
        return self._paths[module]

    def tree(self, module: str) -> ast.Module:
        """Return the syntax tree of a module."""
        path = self.path(module)
        assert path is not None, module
        return parsed(self._text(path))

    def data(self, module: str) -> str:
        """Return the content of a module's data files; empty if there are none.

        They are the file of the same name with ``.yaml``, and the YAML files in the folder of the same name with
        ``_files``.
        """
        path = self.path(module)
        assert path is not None, module
        folder = path.with_name(f"{path.stem}_files")
        return "".join(
            _content_of(self._text(one)) for one in (path.with_suffix(".yaml"), *sorted(folder.rglob("*.yaml")))
        )

    def _text(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = path.read_text(encoding="utf-8") if path.is_file() else ""
        return self._texts[path]


@cache
def _content_of(text: str) -> str:
    return json.dumps(yaml.safe_load(text), sort_keys=True) if text else ""


@dataclass
class Names:
    """The definitions and imports of a module."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # module, and the name in it (empty: the module itself)
    loose: list[ast.stmt] = field(default_factory=list)  # statements that do not define a name


@cache
def names_of(tree: ast.Module) -> Names:
    """Return the definitions and imports of a module."""
    found = Names()
    for node in tree.body:
        if is_for_readers(node):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.imports |= dict(imported(node))
        elif targets := [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and _is_stored(one)]:
            for name in targets:
                found.definitions.setdefault(name, []).append(node)
        else:
            found.loose.append(node)
    return found


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each imported name, with its module and the name there (empty: the module itself)."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, (node.module or "", alias.name)
        else:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, "")
