"""Searchlight representational similarity analysis: spheres, and kernels for CPU and GPU."""
