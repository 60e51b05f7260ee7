"""What the steps are: one record per step, the graph and ``dvc.yaml`` derived from it, and the runner."""
