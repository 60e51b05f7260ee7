"""Sampling settings of a chat agent, as they are in its entry and as they are sent."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from affectlake.validation import Strict, mistake

ONE_TOKEN_LIMIT = 4
"""Token limit for a one-token answer: some tokenizers put an empty token before a digit."""

_OURS = ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "logprobs", "top_logprobs",
         "structured_outputs", "stream", "n")  # fmt: skip


def _refuse_unsendable(extra: dict[str, Any]) -> dict[str, Any]:
    taken = [key for key in extra if key in _OURS]
    if taken:
        raise mistake(f"may not set {taken[0]}", todo="remove it: affectlake sets it itself")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise mistake("cannot be sent as JSON", found=str(error)) from error
    return extra


_NOT_BOTH: dict[str, Any] = {
    "not": {
        "required": ["max_tokens", "max_completion_tokens"],
        "properties": {key: {"type": "integer"} for key in ("max_tokens", "max_completion_tokens")},
    }
}


class Sampling(Strict):
    """How the server samples an answer. A setting that is null is not sent.

    Either `max_tokens` or `max_completion_tokens` must be given, except with a one-token protocol, which has the limit
    `ONE_TOKEN_LIMIT`.
    """

    model_config = ConfigDict(json_schema_extra=_NOT_BOTH)

    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Maximum length of an answer in tokens; null: no limit is sent."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=0.0, description="0: always the most likely token; null: not sent."
    )
    top_p: Annotated[float, Field(ge=1e-6, le=1)] | None = Field(
        default=1.0, description="Probability mass from which tokens are sampled; null: not sent."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None,
        description="Base of the requests' seeds, so that repeats differ and a run is reproducible; null: no seed.",
    )
    extra: (
        Annotated[
            dict[str, Any],
            AfterValidator(_refuse_unsendable),
            Field(json_schema_extra={"propertyNames": {"not": {"enum": list(_OURS)}}}),
        ]
        | None
    ) = Field(
        default=None,
        description="Additional fields of the request, such as {chat_template_kwargs: {enable_thinking: false}}.",
    )
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Newer name of max_tokens, which includes a model's reasoning: for GPT-5 and the o-series.",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise mistake(
                "has both max_tokens and max_completion_tokens",
                found=f"max_tokens: {self.max_tokens}, max_completion_tokens: {self.max_completion_tokens}",
                todo="keep max_completion_tokens for GPT-5 and the o-series, max_tokens for other models",
            )
        if "max_tokens" not in self.model_fields_set and self.max_completion_tokens is None:
            raise mistake("is missing", at="max_tokens", wanted="the maximum number of tokens, or null for no limit")
        if "max_completion_tokens" in self.model_fields_set and "max_completion_tokens" in (self.extra or {}):
            raise mistake("may not set max_completion_tokens", at="extra", todo="remove it: affectlake sets it itself")
        return self

    def as_mapping(self) -> dict[str, Any]:
        """Return the settings that are part of a request's identity, for JSON.

        A setting that was added later is included only if it is set, so that existing keys do not change.
        """
        later = {} if self.max_completion_tokens is None else {"max_completion_tokens": self.max_completion_tokens}
        return later | {
            "extra": dict(self.extra or {}),
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }

    def as_fields(self) -> dict[str, Any]:
        """Return the fields that are the same in every request, which excludes the seed."""
        named = {
            "max_tokens": self.max_tokens,
            "max_completion_tokens": self.max_completion_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        return dict(self.extra or {}) | {name: value for name, value in named.items() if value is not None}
