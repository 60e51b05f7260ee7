"""Variational SPoSE (VICE): a normal distribution of each weight in place of one value, with a spike-and-slab prior.

The model is that of Muttenthaler, Zheng, McClure, Vandermeulen, Hebart & Pereira (NeurIPS 2022). The choice model is
that of `affectlake.spose.model`, the implementation is this package's own.
"""
