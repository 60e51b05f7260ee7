"""The command line, with one module for each group of commands. It only handles arguments, output and errors."""
