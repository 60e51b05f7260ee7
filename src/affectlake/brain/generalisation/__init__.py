"""How sure comparisons of models with subjects' RSMs are for other subjects and other stimuli."""
