"""The two ways of writing: plain where nothing clashes, careful where that is refused or was closed."""

from typing import Any

from ripieno.store.database.database import Database, NotPlainError


class TwoWays(Database):
    """A database that counts what goes the plain way, and closes it now and then.

    Attributes:
        careful_every: Each so-many-th call of a plain function is refused; 0 for none, 1 for all.
        plain: Calls that went the plain way to the end.
        refused: Calls that it refused itself because something clashed.
    """

    careful_every = 0
    plain = 0
    refused = 0
    _calls = 0

    async def call_plain(self, statement: str, *arguments: Any, incarnation: int | None = None) -> Any:
        self._calls += 1
        if self.careful_every and self._calls % self.careful_every == 0:
            raise NotPlainError
        try:
            value = await super().call_plain(statement, *arguments, incarnation=incarnation)
        except NotPlainError:
            self.refused += 1
            raise
        self.plain += 1
        return value
