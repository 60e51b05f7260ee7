"""Agents that answer triplets: questions, requests to servers, answers and their interpretation."""
