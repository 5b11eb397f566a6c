"""Downloads of large results: read from the object store a piece at a time, as the client takes them.

The pieces of all downloads share a room in memory (``control.results.room``): a piece is
1 MiB as a rule, and less while many clients are slow to read theirs.
"""

from collections.abc import AsyncGenerator
from contextlib import closing

from ripieno.control.results.room import STREAM_BYTES, Room
from ripieno.domain.data import StoredObject
from ripieno.objects import PIECE_BYTES
from ripieno.store.cluster.objects import ObjectStore

#: The smallest piece, but for the last of an object: smaller ones would cost more to ask for than to send.
_SMALLEST_PIECE_BYTES = 64 * 1024


async def pieces(
    objects: ObjectStore, stored: StoredObject, room: Room, offset: int = 0
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an object from ``offset`` on, in order; nothing if there are none.

    A piece is held in ``room`` until the next one is asked for, or the generator is closed:
    use ``contextlib.aclosing``.

    Raises:
        UnavailableError: if the object store does not answer, or has lost the object.
    """
    with closing(Room(STREAM_BYTES, within=room)) as part:
        while offset < stored.size:
            held = part.take_up_to(PIECE_BYTES, least=_SMALLEST_PIECE_BYTES)
            piece = await objects.read_piece(stored, offset, held)
            offset += len(piece)
            yield piece
            part.give_back(held)
