"""Recurring collections: the slots of a schedule, the flow that runs one, and the process that runs them when due."""
