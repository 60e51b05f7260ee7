"""What an embedding means: intervals, classes, correlations with ratings and a map of it.

Arrays in, arrays out: no table is read or written here.
"""
