"""The Prefect flows: building a study, collecting answers, and collecting on a schedule."""
