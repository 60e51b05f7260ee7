"""The process that runs: its environment, standard streams, interrupts, and leases between processes."""
