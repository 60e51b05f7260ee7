"""The study as a pipeline: its parameters, its steps, the engine that runs them, collections, and outputs."""
