"""Agents that answer triplets: without a server, and what is asked of those that need one.

Drawing triplets, reading sources and learning from the answers do not belong here. The names below are loaded when
first used: importing this package does not load Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from affectlake.lazily import loaded_when_used

if TYPE_CHECKING:
    from affectlake.judge.agents import Agent as Agent
    from affectlake.judge.agents import FeaturesAgent as FeaturesAgent
    from affectlake.judge.agents import RatingsAgent as RatingsAgent
    from affectlake.judge.agents import SentenceTransformers as SentenceTransformers
    from affectlake.judge.agents import TfidfSvd as TfidfSvd
    from affectlake.judge.agents import VisionEncoder as VisionEncoder
    from affectlake.judge.agents import parse_agent as parse_agent
    from affectlake.judge.ratings import rating_vectors as rating_vectors
    from affectlake.judge.similarity import Choices as Choices
    from affectlake.judge.similarity import choose_by_cosine as choose_by_cosine
    from affectlake.judge.text import sentence_transformer as sentence_transformer
    from affectlake.judge.text import text_vectors as text_vectors
    from affectlake.judge.text import tfidf_svd as tfidf_svd

_HOME = {
    "Agent": "agents",
    "Choices": "similarity",
    "FeaturesAgent": "agents",
    "RatingsAgent": "agents",
    "SentenceTransformers": "agents",
    "TfidfSvd": "agents",
    "VisionEncoder": "agents",
    "choose_by_cosine": "similarity",
    "parse_agent": "agents",
    "rating_vectors": "ratings",
    "sentence_transformer": "text",
    "text_vectors": "text",
    "tfidf_svd": "text",
}

__all__ = list(_HOME)

__getattr__ = loaded_when_used(__name__, _HOME)
