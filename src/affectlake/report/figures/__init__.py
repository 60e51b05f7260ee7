"""Every drawing of the report."""
