"""Files, paths, names, checksums and Git. Nothing about tables belongs here."""
