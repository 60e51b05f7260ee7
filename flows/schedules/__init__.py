"""Recurring collections: the slots of a schedule, the flow that runs a slot, and the scheduler."""
