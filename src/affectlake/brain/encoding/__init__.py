"""Voxel-wise encoding models: cross-validated ridge regression and its reliability."""
