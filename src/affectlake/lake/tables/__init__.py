"""Tables: contracts, Parquet parts, rules, validation, writing and appending."""
