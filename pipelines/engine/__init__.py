"""The engine: the graph of stages, ``dvc.yaml``, running a stage, fingerprints of code, and MLflow runs."""
