"""People as judges: the odd-one-out task, served to browsers."""
