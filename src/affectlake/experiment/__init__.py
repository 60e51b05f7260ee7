"""The odd-one-out task, served to people in a browser."""
