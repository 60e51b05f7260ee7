"""The JSON schema of ``params.yaml``: editors complete and check it by this, without a network.

It is made from the parser's models by ``make docs`` and installed with the code. The parser
(:func:`affectlake.pipelines.params.study.parse`) decides what is valid. Each lake has a copy among the files that can
be made again. It describes what the installed code accepts, not how a version was made. It is therefore not published:
an upgrade does not make a version, and two people who share a lake and have different releases have no conflict in it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole

FILE = "params.schema.json"
MODELINE = f"# yaml-language-server: $schema={layout.PARAMS_SCHEMA}\n"
"""The first line of a new lake's ``params.yaml``: where editors find the schema, without a network."""


def render() -> str:
    """Return the text of the schema."""
    from affectlake.pipelines.params.study import Params  # late: a lake's copy needs no models
    from affectlake.validation import json_schema

    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "params.yaml of an affectlake"}
    return json.dumps(head | json_schema(Params), indent=1, ensure_ascii=False) + "\n"


def put_schema(lake: Path) -> None:
    """Let a lake have the schema of the installed code. A lake that cannot be written to goes without."""
    text = files("affectlake.pipelines.params").joinpath(FILE).read_bytes()
    path = lake / layout.PARAMS_SCHEMA
    with suppress(OSError):
        if not path.exists() or path.read_bytes() != text:
            write_whole(path, text)
