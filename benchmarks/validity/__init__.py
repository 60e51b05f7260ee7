"""Simulations of the errors of every inference: how often it finds what is not there, and how often what is."""
