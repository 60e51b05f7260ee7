"""Interpretation of answers: from text to the chosen stimulus, rows of tables, and position bias."""
