"""Inference on clusters of voxels: TFCE, cluster mass, and their levels by relabelled stimuli or flipped signs."""
