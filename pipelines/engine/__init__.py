"""From step records to stages: the graph, ``dvc.yaml``, running a stage, fingerprints of code, MLflow runs."""
