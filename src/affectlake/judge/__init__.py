"""Agents that answer triplets: without a server, and what is asked of those that need one.

Drawing triplets, reading sources and learning from the answers do not belong here.
"""

from affectlake.judge.agents import Agent, FeaturesAgent, RatingsAgent, SentenceTransformers, TfidfSvd, parse_agent
from affectlake.judge.ratings import rating_vectors
from affectlake.judge.similarity import Choices, choose_by_cosine
from affectlake.judge.text import sentence_transformer, text_vectors, tfidf_svd

__all__ = [
    "Agent",
    "Choices",
    "FeaturesAgent",
    "RatingsAgent",
    "SentenceTransformers",
    "TfidfSvd",
    "choose_by_cosine",
    "parse_agent",
    "rating_vectors",
    "sentence_transformer",
    "text_vectors",
    "tfidf_svd",
]
