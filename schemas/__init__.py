"""What a table is: fields.yaml (each column once) and tables/*.yaml, read by ``affectlake.lake.tables.contracts``."""
