"""Tables in files of the user: CSV, TSV, Parquet and Excel, read as text with one clear message for each problem.

What is safe to read is read, and notes say what was done; what would have to be guessed is refused with its row. The
meaning of columns does not belong here.
"""

from affectlake.user_tables.cells import Legal, examples, ids_of, texts_of, to_numbers
from affectlake.user_tables.reading import UserFile, UserTable, read_table

__all__ = ["Legal", "UserFile", "UserTable", "examples", "ids_of", "read_table", "texts_of", "to_numbers"]
