"""``dvc.lock``, the records of the stages that are done: read, written, sorted, and repaired if it is incomplete."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.git_objects import content_at
from affectlake.lake.store.unrecorded import mark_unrecorded


def sort_lock(lake: Path) -> None:
    """Sort the stages of ``dvc.lock`` by name: DVC appends them in the order in which they finish."""
    lock = read_lock(lake)
    names = list(lock.get("stages", {}))
    if names != sorted(names):
        write_lock(lake, lock | {"stages": {name: lock["stages"][name] for name in sorted(names)}})


def repair_lock(lake: Path, say: Callable[[str], None]) -> None:
    """Replace a ``dvc.lock`` that DVC was interrupted in writing by the last commit's; its stages then run again."""
    try:
        read_lock(lake)
    except LakeError:
        pass
    else:
        return
    say(f"{layout.PIPELINE_LOCK} was incomplete; replaced by that of the last version")
    folders = {path.parent for path in (lake / layout.TABLES).rglob("part-*.parquet")}
    for output in filter(None, (Output.at(str(folder.relative_to(lake))) for folder in folders)):
        mark_unrecorded(lake, output)
    content = content_at(lake, "HEAD", layout.PIPELINE_LOCK)
    if content is not None:
        write_whole(lake / layout.PIPELINE_LOCK, content)
    else:
        (lake / layout.PIPELINE_LOCK).unlink()


def read_lock(lake: Path) -> dict[str, Any]:
    """Read ``dvc.lock`` as DVC does: as YAML 1.2, in which ``1e-3`` is a number and ``yes`` a string."""
    from ruamel.yaml.error import YAMLError

    path = lake / layout.PIPELINE_LOCK
    if not path.exists():
        return {}
    try:
        found = _yaml_of(path.read_bytes())
    except (YAMLError, UnicodeError) as error:
        raise LakeError(f"{path} is not YAML", found=str(error), todo="repair it with `affectlake run`") from error
    if not isinstance(found, dict):
        raise LakeError(
            f"{path} is incomplete", found=f"{path.stat().st_size} bytes", todo="repair it with `affectlake run`"
        )
    return found


@lru_cache(maxsize=2)
def _yaml_of(content: bytes) -> Any:
    """Parse YAML 1.2; the result is shared by all readers of the same bytes, which do not change it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(content)


class _LockDumper(yaml.CSafeDumper):
    """Dumper that writes DVC's ordered mappings as mappings, and repeated values without aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Return True: no value is written as an alias of another."""
        return True


_LockDumper.add_representer(OrderedDict, lambda dumper, found: dumper.represent_dict(found.items()))
# strings that are numbers in YAML 1.2, as DVC reads it, and not in 1.1, are quoted too
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+|0o[0-7]+")
_LockDumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def write_lock(lake: Path, lock: dict[str, Any]) -> None:
    text = yaml.dump(lock, Dumper=_LockDumper, sort_keys=False, allow_unicode=True)
    write_whole(lake / layout.PIPELINE_LOCK, text.encode())
