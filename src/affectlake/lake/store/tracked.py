"""Outputs in a version's ``dvc.lock`` that are not tables: those of user-defined stages. They are kept, not run.

They are pushed, pulled and checked with the version (`affectlake push`, `pull`, `fsck`), as far as DVC's cache has
them. Outputs that ``dvc.yaml`` declares as not cached, not pushed or in a separate remote are left to DVC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from affectlake.lake.files import layout
from affectlake.lake.files.names import is_digest, is_step
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.git_objects import content_at
from affectlake.lake.store.versions import Manifest, outs_of

_KINDS = ("outs", "metrics", "plots")


def tracked(manifest: Manifest) -> dict[str, str]:
    """Return the MD5 of each output, by its path, that DVC's cache should have and that is not a table."""
    theirs = {name: entry for name, entry in manifest.stages.items() if not is_step(name, entry.get("cmd"))}
    if not any(Output.at(str(out.get("path"))) is None for entry in theirs.values() for out in outs_of(entry)):
        return {}
    declared = _declared(manifest)
    found = {}
    for name, entry in theirs.items():
        body = declared.get(name) or declared.get(name.rpartition("@")[0])
        if body is None:
            continue  # like DVC, ignore a stage that dvc.yaml does not have
        left = list(_left_to_dvc(body))
        for out in outs_of(entry):
            path = str(out.get("path"))
            kept = out.get("hash") == "md5" and is_digest(out.get("md5")) and Output.at(path) is None
            if kept and not any(pattern.fullmatch(path) for pattern in left):
                found[path] = str(out["md5"])
    return found


def _declared(manifest: Manifest) -> Mapping[str, Any]:
    """Return the stages of the ``dvc.yaml`` beside a ``dvc.lock``; an empty mapping if it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if manifest.commit:
        text = content_at(manifest.root, manifest.commit, layout.PIPELINE)
    else:
        path = manifest.root / layout.PIPELINE
        text = path.read_bytes() if path.exists() else None
    try:
        body = YAML(typ="safe").load(text or b"")
    except (YAMLError, UnicodeError):
        return {}
    stages = body.get("stages") if isinstance(body, dict) else None
    return stages if isinstance(stages, dict) else {}


def _left_to_dvc(stage: Any) -> Iterator[re.Pattern[str]]:
    """Yield patterns of the paths of a stage's outputs that are left to DVC; ``${…}`` matches anything."""
    body = stage.get("do", stage) if isinstance(stage, dict) else {}
    for kind in _KINDS:
        outs = body.get(kind) if isinstance(body, dict) else None
        for one in outs if isinstance(outs, list) else ():
            for path, options in one.items() if isinstance(one, dict) else ():
                if isinstance(options, dict) and (
                    options.get("cache") is False or options.get("push") is False or options.get("remote")
                ):
                    parts = re.split(r"\$\{[^}]*\}", str(path))
                    yield re.compile(".*".join(map(re.escape, parts)))
