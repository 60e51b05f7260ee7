"""Joining two lakes: versions of the other under names here, and the answers of both in one new version."""
