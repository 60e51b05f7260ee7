"""The JSON schema of ``params.yaml``, with which editors complete and check the file offline.

``make docs`` generates it from the parser's models, and it is installed with the code. The parser
(:func:`affectlake.pipelines.params.study.parse`) decides what is valid. Each lake has a copy, which can be generated
again at any time. The schema describes what the installed code accepts, not how a version was made, and is not
published: an upgrade does not make a version, and users of one lake with different releases have no conflict.
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
"""The first line of ``params.yaml`` in a new lake, which tells editors where the schema is."""


def render() -> str:
    """Return the text of the schema."""
    from affectlake.pipelines.params.study import Params  # late, because copying the schema does not need the models
    from affectlake.validation import json_schema

    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "params.yaml of an affectlake"}
    return json.dumps(head | json_schema(Params), indent=1, ensure_ascii=False) + "\n"


def put_schema(lake: Path) -> None:
    """Copy the schema of the installed code to a lake, with the lake's protocols; do nothing if it is read-only."""
    text = files("affectlake.pipelines.params").joinpath(FILE).read_bytes()
    own = sorted(path.stem for path in (lake / layout.PROTOCOLS).glob("[!.]*.yaml"))
    if own:
        body = json.loads(text)
        body["$defs"]["ChatAgent"]["properties"]["protocol"]["enum"] += own
        text = (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()
    path = lake / layout.PARAMS_SCHEMA
    with suppress(OSError):
        if not path.exists() or path.read_bytes() != text:
            write_whole(path, text)
