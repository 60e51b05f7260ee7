"""Files, paths, names, checksums and Git. Nothing here knows what a table is."""
