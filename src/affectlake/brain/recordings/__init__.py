"""Brain recordings: reading them, their voxels and regions, preprocessing, and synthetic ones."""
