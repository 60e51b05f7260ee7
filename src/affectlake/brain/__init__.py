"""Comparison with brains: encoding models, stimulus reliability, searchlight RSA, regions, and group statistics."""
