"""The figures of the report; ``catalogue`` lists them and describes how to add one."""
