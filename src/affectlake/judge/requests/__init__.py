"""How questions are sent to servers and what comes back is kept."""
