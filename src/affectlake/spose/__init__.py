"""Sparse positive similarity embeddings (SPoSE): the choice model, its fit, and the dimensions it finds."""
