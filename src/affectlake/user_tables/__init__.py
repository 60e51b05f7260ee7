"""Tables in files of the user: CSV, TSV, Parquet, Excel and JSON, read as text with one clear message for each problem.

What is safe to read is read, and notes say what was done; what would have to be guessed is refused with its row. The
meaning of columns does not belong here.
"""

from affectlake.user_tables.cells import Legal, examples, ids_of, texts_of, to_numbers
from affectlake.user_tables.reading import read_table
from affectlake.user_tables.records import RECORDS
from affectlake.user_tables.table import UserFile, UserTable

__all__ = ["RECORDS", "Legal", "UserFile", "UserTable", "examples", "ids_of", "read_table", "texts_of", "to_numbers"]
