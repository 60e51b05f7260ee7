"""Processes: environment, standard streams, interrupts, server processes, and locks between processes."""
