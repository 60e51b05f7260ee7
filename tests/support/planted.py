"""A tiny lake whose captions, answers and frames can be recognised wherever they appear; built in a second."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import polars as pl
import yaml
from PIL import Image

from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables import factory, writing

N_STIMULI = 12
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
PROTOCOL = "describe-then-choose/caption/1"


def caption_of(stimulus: int) -> str:
    """Return the caption of a stimulus, with a script in it."""
    return f"planted-caption-{stimulus}-{SCRIPT}"


def answer_of(stimulus: int) -> str:
    """Return an answer that quotes a caption and chooses the first stimulus shown."""
    return f"It shows planted-caption-{stimulus} {SCRIPT}. Video 1 is noticeably different from the other two."


def jpeg() -> bytes:
    """Return a picture."""
    file = BytesIO()
    Image.new("RGB", (32, 24), (200, 40, 40)).save(file, "JPEG")
    return file.getvalue()


def planted_lake(lake: Path, params: str = "study: planted\nsources: {kind: tables}\n") -> Path:
    """Make the lake, with one version, and return it."""
    repository.init(lake, params)
    tables = factory.tiny_lake(N_STIMULI)
    tables["captions"] = tables["captions"].with_columns(caption=pl.Series(map(caption_of, range(N_STIMULI))))
    tables["frames"] = tables["frames"].with_columns(jpeg=pl.lit(jpeg()))
    tables["choices"] = tables["choices"].filter(pl.col("k") != 4)
    tables["responses"] = tables["responses"].with_columns(
        pl.lit(PROTOCOL).alias("protocol"), pl.lit("planted-model").alias("model"),
        pl.lit("stop").alias("finish_reason"), pl.lit("main").alias("trial_set"),
        *(pl.lit(0, dtype=pl.Int16).alias(f"caption_{n}") for n in (1, 2, 3)),
        answer=pl.when(pl.col("answer").is_not_null()).then(pl.lit(answer_of(2))),
    )  # fmt: skip
    tables["unparsed"] = tables["unparsed"].with_columns(k=pl.lit(4, pl.Int32), unparsed_reason=pl.lit("refusal"))
    other = tables["choices"].with_columns(
        agent=pl.lit("other"), odd=pl.when(pl.col("i") == 0).then("i").otherwise("odd")
    )
    plain = ("stimuli", "captions", "ratings", "families", "videos", "frames", "triplets")
    own = ("choices", "unparsed", "responses", "embeddings", "labels", "fits")
    frames = {Output(name): tables[name] for name in plain} | {Output(name, "tiny"): tables[name] for name in own}
    frames[Output("choices", "other")] = other
    writing.write_outputs(lake, "tiny", frames, {name: frame.lazy() for name, frame in tables.items()})
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in frames]
    stage = {"cmd": "affectlake step tiny --step-version 1", "outs": outs}
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"tiny": stage}}))
    record_done(lake, "tiny")
    assert repository.publish(lake) is not None
    return lake
