"""The SQL of this package: named statements in the files ``sql/*.sql``.

A file holds statements, each headed by ``-- name: its_name``; comments below the name say
what the statement locks, which index carries it, and why it looks as it does.
"""

import re
from collections.abc import Iterator
from importlib.resources import files

_NAME = re.compile(r"^-- name: (?P<name>\w+)$", re.MULTILINE)


class Queries:
    """The statements of one file, as attributes.

    Raises:
        AttributeError: the file has no statement of the name that was read.
    """

    def __init__(self, file: str) -> None:
        text = (files("ripieno.store") / "sql" / f"{file}.sql").read_text()
        parts = _NAME.split(text)
        self._statements: dict[str, str] = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"no statement is named {name!r}; there are {sorted(self._statements)}") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._statements.items())
