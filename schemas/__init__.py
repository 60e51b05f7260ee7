"""What a table is: fields.yaml (each column once) and tables/*.yaml. Read through ``affectlake.lake.contracts``."""
