"""``Events``: what there is in sessions and what changes in them, followed over one stream after the other."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.domain.changes import Change
from ripieno.wire.events import change_from_wire
from ripieno.wire.protos.v1 import events_pb2, events_pb2_grpc


@dataclass(frozen=True, slots=True)
class Events:
    """Events that were told together.

    Attributes:
        changes: In the order of the commits for each session, task and result.
        cursor: Where to go on, also much later and from another process, once all events so far are processed;
            None if there is no such place yet.
        snapshot: Whether these tell what there is, instead of what has changed.
        snapshot_ends: Whether these are the last of a snapshot.
        restarted: Why a snapshot begins anew: the cursor was too old. What was told before is void. Else empty.
    """

    changes: Sequence[Change]
    cursor: str | None
    snapshot: bool
    snapshot_ends: bool
    restarted: str


async def follow_events(
    connection: Connection, session_ids: Sequence[str], cursor: str | None, *, snapshot: bool
) -> AsyncGenerator[Events, None]:
    """Yield events until closed; after a break of the stream it goes on where it was.

    Raises:
        NotFoundError: one of the sessions does not exist.
        InvalidRequestError: the cursor is none.
        UnavailableError: no server answered.
    """
    patience = connection.patience("follow events")
    broke = ""
    while True:
        request = events_pb2.FollowEventsRequest(
            session_ids=session_ids, cursor=cursor or "", without_snapshot=not snapshot
        )
        try:
            async for batch in connection.stub(events_pb2_grpc.EventsStub).Follow(request):
                patience.renew()
                events = _events(batch)
                if broke and events.snapshot and not events.restarted:
                    events = Events(
                        events.changes, None, snapshot=True, snapshot_ends=events.snapshot_ends, restarted=broke
                    )
                broke = ""
                cursor = events.cursor or cursor
                if events.changes or events.cursor or events.snapshot_ends or events.restarted:
                    yield events
        except grpc.aio.AioRpcError as error:
            await patience.pause(error)
            # In the middle of a snapshot there is no place to go on from.
            broke = "" if cursor else "the connection broke before the snapshot was complete"


def _events(batch: events_pb2.EventBatch) -> Events:
    changes = [change for event in batch.events if (change := change_from_wire(event)) is not None]
    return Events(changes, batch.cursor or None, batch.snapshot, batch.snapshot_ends, batch.restarted)
