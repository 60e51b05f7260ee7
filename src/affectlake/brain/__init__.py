"""The brain: voxel-wise encoding, stimulus reliability, searchlight RSA, regions, and statistics across subjects."""
