"""Cursors: where the next page of a list begins, as a text that means something to this cluster alone.

A cursor holds the position of a row: the values by which the rows are sorted, and the row's key. It is sealed under a secret of
the cluster, so that nobody reads numbers of the store in it, and bound to the list, the filter and the sort, so
that it goes on with no other query. Any replica opens it, and it does not grow old.

The seal is deterministic authenticated encryption from HMAC-SHA-256 alone: the tag of the query and the position is
also the nonce of the key stream (the construction of SIV, RFC 5297), so equal positions have equal cursors.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.queries import CheckedQuery

_TAG_BYTES = 16
_BLOCK_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Names a time among the values of a position.
_TIME = "at"


class Cursors:
    """Makes and opens the cursors of one cluster.

    Args:
        secret: The cluster's secret.
    """

    def __init__(self, secret: bytes) -> None:
        self._tags = hmac.digest(secret, b"tags of cursors", "sha256")
        self._stream = hmac.digest(secret, b"key stream of cursors", "sha256")

    def seal(self, query: CheckedQuery, position: Sequence[Any]) -> str:
        """Return the cursor of a position in the rows of a query."""
        plain = json.dumps([_encoded(value) for value in position], separators=(",", ":")).encode()
        tag = self._tag(query, plain)
        return base64.urlsafe_b64encode(tag + self._crypted(tag, plain)).decode().rstrip("=")

    def open(self, query: CheckedQuery) -> list[Any]:
        """Return the position in the cursor of a query.

        Raises:
            InvalidRequestError: the cursor is none of this cluster, or of another query.
        """
        try:
            sealed = base64.urlsafe_b64decode(query.cursor + "=" * (-len(query.cursor) % 4))
        except ValueError:
            sealed = b""
        tag, crypted = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
        plain = self._crypted(tag, crypted)
        if not hmac.compare_digest(tag, self._tag(query, plain)):
            raise InvalidRequestError(
                "cursor",
                "is not one of this query: it goes on with the list, the filter and the sort of the reply that it came with;"
                " begin again without a cursor",
            )
        return [_decoded(value) for value in json.loads(plain)]

    def _tag(self, query: CheckedQuery, plain: bytes) -> bytes:
        return hmac.digest(self._tags, _digest(query) + plain, "sha256")[:_TAG_BYTES]

    def _crypted(self, tag: bytes, data: bytes) -> bytes:
        """Encrypt or decrypt: add a key stream that the tag begins."""
        blocks = range(-(-len(data) // _BLOCK_BYTES))
        stream = b"".join(hmac.digest(self._stream, tag + block.to_bytes(8, "big"), "sha256") for block in blocks)
        added = int.from_bytes(data, "big") ^ int.from_bytes(stream[: len(data)], "big")
        return added.to_bytes(len(data), "big")


def _digest(query: CheckedQuery) -> bytes:
    """Return a digest of what a cursor belongs to: the list, the filter and the sort."""
    told = [
        query.listed.value,
        [[[test.field.name, test.operator.value, _encoded(test.value)] for test in all_of] for all_of in query.any_of],
        [[field.name, descending] for field, descending in query.sort],
    ]
    return hashlib.sha256(json.dumps(told).encode()).digest()


def _encoded(value: Any) -> Any:
    if isinstance(value, datetime):
        return {_TIME: (value - _EPOCH) // _MICROSECOND}
    return value // _MICROSECOND if isinstance(value, timedelta) else value


def _decoded(value: Any) -> Any:
    return _EPOCH + value[_TIME] * _MICROSECOND if isinstance(value, dict) else value
