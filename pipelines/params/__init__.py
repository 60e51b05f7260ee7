"""What a study's settings are: ``params.yaml`` and its sections, checked, and the templates of new studies."""
