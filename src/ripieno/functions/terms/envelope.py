"""``Envelope``: the payload of a function task.

::

    b"RPF1" | length of the header (4 bytes, little endian) | header (JSON, UTF-8) | function | arguments

The header can be read without unpickling anything and by every version of Python: it names the
function for people, says which Python pickled it, and how long the function's pickle is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAGIC = b"RPF1"
_LENGTH_BYTES = 4

#: Pickled code is not portable between minor versions of Python.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A function and its arguments.

    Attributes:
        name: The function's name, for people.
        function: The pickled function, or the key of the result that holds it.
        arguments: The pickle of ``(args, kwargs)``; if ``each``, of a list of such pairs.
        each: Whether the function is called once for each pair, and the result is the list of values.
        python: The minor version of Python that pickled them.
        retried: The pickle of the exception classes after which another attempt may follow; None for all.
    """

    name: str
    function: bytes | str
    arguments: bytes
    each: bool = False
    python: str = PYTHON
    retried: bytes | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """Return the payload."""
        return self.head() + self.arguments

    def head(self) -> bytes:
        """Return all of the payload but the arguments: the same for all tasks that differ in these alone."""
        header: dict[str, Any] = {"name": self.name, "python": self.python}
        function = b""
        if isinstance(self.function, str):
            header["function"] = self.function
        else:
            function = self.function
            header["bytes"] = len(function)
        if self.each:
            header["each"] = True
        if self.retried is not None:
            header["retried"] = self.retried.hex()
        encoded = json.dumps(header, separators=(",", ":")).encode()
        return b"".join((MAGIC, len(encoded).to_bytes(_LENGTH_BYTES, "little"), encoded, function))

    @classmethod
    def decode(cls, payload: bytes) -> Envelope:
        """Return the envelope of a payload.

        Raises:
            ValueError: the payload is none.
        """
        if not payload.startswith(MAGIC):
            raise ValueError("the payload is not that of a function task")
        begin = len(MAGIC) + _LENGTH_BYTES
        end = begin + int.from_bytes(payload[len(MAGIC) : begin], "little")
        try:
            header: Mapping[str, Any] = json.loads(payload[begin:end])
            function = header.get("function")
            if function is None:
                rest = end + int(header["bytes"])
                function, end = payload[end:rest], rest
            retried = header.get("retried")
            return cls(
                header["name"],
                function,
                payload[end:],
                bool(header.get("each")),
                header["python"],
                None if retried is None else bytes.fromhex(retried),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the payload's header cannot be read: {error}") from error
