"""What a model's words mean: from text to the chosen stimulus, rows of tables, and position bias."""
