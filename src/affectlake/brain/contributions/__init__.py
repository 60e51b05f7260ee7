"""What each band of features contributes to a region, by methods that answer different questions."""
