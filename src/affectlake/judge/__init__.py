"""Agents that answer triplets: what they are asked, how requests are sent and kept, and what the answers mean."""
