"""Agents without a server: vectors of ratings, text and images, and the odd one out by cosine similarity."""
