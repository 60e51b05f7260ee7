"""Between a lake and the agents that are asked: what to ask, where answers wait, how they become a version."""
