"""Sending questions to servers, and storing the answers."""
