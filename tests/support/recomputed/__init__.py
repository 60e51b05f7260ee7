"""References for `tests/pipelines/test_recomputed.py`: the rows of tables, computed from other tables of a lake.

NumPy, SciPy, scikit-learn, networkx and statsmodels compute; of the product, only what reads a lake and its parameters,
and what runs a step, is used.
"""
