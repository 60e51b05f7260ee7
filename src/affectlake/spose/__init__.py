"""Sparse positive similarity embeddings (SPoSE): the choice model, fitting, and the dimensions of the result."""
