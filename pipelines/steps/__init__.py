"""The steps, one file for each part of a study: tables in, tables out. The computations are in other packages."""
