"""The steps, a file for each chapter of a study: tables in, tables out. Arithmetic belongs to the science packages."""
