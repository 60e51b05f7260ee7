"""Models that are shown videos: their loading, preprocessing and features, and the layers whose maps can be drawn."""
