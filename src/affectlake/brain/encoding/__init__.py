"""Voxel-wise encoding models: cross-validated ridge regression, and the reliability of stimuli."""
