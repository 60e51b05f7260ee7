"""Protocols: how a trial is worded, and how its answer is read."""
