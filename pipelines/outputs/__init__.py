"""Outputs of a version for readers: the report, NIfTI images and surface maps."""
