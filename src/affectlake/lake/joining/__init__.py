"""Joining two lakes: names for the other lake's versions, and one new version with the answers of both."""
