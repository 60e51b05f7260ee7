"""Agents that need no server: vectors of ratings, text and images, and the odd one out by cosine similarity."""
