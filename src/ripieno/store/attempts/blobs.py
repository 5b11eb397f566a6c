"""Numbers for the data of results."""

from ripieno.store.database.database import Database
from ripieno.store.database.numbers import Numbers
from ripieno.store.database.queries import Queries

_SQL = Queries("blobs")


class BlobNumbers(Numbers):
    """Hands out blob numbers from blocks of the sequence ``blob_numbers``."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _SQL.next_block)
