"""The lake in a browser: pages over its versions, served on this computer (``affectlake ui``) or written as files.

Pages only read. ``access`` decides who may see them, ``app`` which page belongs to which address; the other modules
read what a page shows. Science is not done here: numbers come from tables, or from the functions that steps use.
"""
