"""Interpretation of embeddings: labels, classification, agreement, graphs, confidence intervals and layouts.

Arrays in, arrays out: no table is read or written here.
"""
