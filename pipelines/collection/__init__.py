"""Collecting answers: which questions to ask an agent, where answers are kept, and how they become a version."""
