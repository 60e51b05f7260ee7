"""Brain recordings: reading, voxels and regions, preprocessing, and synthetic recordings."""
