"""What leaves a lake as files for people: the report, NIfTI images, surface maps."""
