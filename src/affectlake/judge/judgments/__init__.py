"""Odd-one-out judgments that people already gave, from files: reading, checking, and what identifies a judgment.

Nothing is stored here; :mod:`affectlake.pipelines.collection.importing` does that.
"""
