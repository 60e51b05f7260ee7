"""The parameters of a study: ``params.yaml``, its sections and their checks, and the templates of new studies."""
