"""Encodes the agent's first messages to a worker for an attempt (docs/protocol.md, section 4).

They are, in order: init_request with the first chunk of the payload (possibly empty), the other
chunks, data_complete, each distinct dependency, last_data. Data in memory is encoded all at once
into a batch, data in files message by message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from ripieno.agent.attempts.attempt import Attempt, Input, RunOptions, Spooled
from ripieno.agent.conversation.gathering import Limits
from ripieno.wire.arenas import ARENA_BYTES
from ripieno.wire.chunks import chunks
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2
from ripieno.wire.protos.v1 import batch_worker_pb2

BatchRequest = batch_worker_pb2.BatchRequest
ProcessRequest = worker_service_pb2.ProcessRequest
_Compute = ProcessRequest.ComputeRequest
_Chunk = objects_pb2.DataChunk

_PAYLOAD_COMPLETE = ProcessRequest(compute=_Compute(payload=_Chunk(data_complete=True)))
_DATA_COMPLETE = ProcessRequest(compute=_Compute(data=_Chunk(data_complete=True)))
_LAST_DATA = ProcessRequest(compute=_Compute(init_data=_Compute.InitData(last_data=True)))
#: The last messages of an opening without dependencies.
_SHORT_END = (_PAYLOAD_COMPLETE.SerializeToString(), _LAST_DATA.SerializeToString())


class Opener:
    """Encodes openings whose data is in memory as items of a BatchRequest.

    The commonest opening, a payload of one chunk and no dependencies, is built once for a
    run of attempts of one session and then only filled in, which takes a third of the time of
    building it anew. The encoder's memory is bounded by ``ARENA_BYTES`` and one opening.
    """

    def __init__(self) -> None:
        self._session_id: str | None = None
        self._options: RunOptions | None = None
        self._limits: Limits | None = None
        self._build()

    def encode(self, attempt: Attempt, limits: Limits) -> bytes:
        """Encode a BatchRequest with one item. Joined, such encodings are one BatchRequest."""
        payload = attempt.payload
        assert isinstance(payload, bytes)
        if attempt.data_dependencies or len(payload) > limits.data_chunk_max_size:
            return _encode_at_length(attempt, payload, limits)
        if self._taken_bytes > ARENA_BYTES:
            self._build()
        init = self._init
        options = attempt.options
        if options is not self._options or attempt.session_id != self._session_id or limits is not self._limits:
            init.Clear()
            init.configuration.data_chunk_max_size = limits.data_chunk_max_size
            init.session_id = attempt.session_id
            init.task_options.update(options.options)
            self._session_id, self._options, self._limits = attempt.session_id, options, limits
        self._item.attempt = attempt.number
        self._item.place = attempt.place
        init.task_id = attempt.id
        init.expected_output_keys[:] = attempt.expected_output_keys
        init.payload.data = payload
        encoded = self._batch.SerializeToString()
        self._taken_bytes += len(encoded)  # at least as much as the fields set above take
        return encoded

    def _build(self) -> None:
        """Begin a new message. The former one is dropped whole, which frees all memory that it holds."""
        self._batch = BatchRequest()
        self._item = self._batch.items.add()
        self._init = self._item.requests.add().compute.init_request
        self._item.requests.extend((_PAYLOAD_COMPLETE, _LAST_DATA))
        self._options = None
        self._taken_bytes = 0


def whole_opening(attempt: Attempt, limits: Limits) -> list[bytes]:
    """Encode the messages of an opening whose data is in memory."""
    payload = attempt.payload
    assert isinstance(payload, bytes)
    if attempt.data_dependencies or len(payload) > limits.data_chunk_max_size:
        return [request.SerializeToString() for request in _at_length(attempt, payload, limits)]
    return [_init_request(attempt, limits, payload).SerializeToString(), *_SHORT_END]


def _encode_at_length(attempt: Attempt, payload: bytes, limits: Limits) -> bytes:
    item = BatchRequest.Item(attempt=attempt.number, place=attempt.place, requests=_at_length(attempt, payload, limits))
    return BatchRequest(items=[item]).SerializeToString()


def _at_length(attempt: Attempt, payload: bytes, limits: Limits) -> list[ProcessRequest]:
    longest = limits.data_chunk_max_size
    first, *others = chunks(payload, longest)
    requests = [_init_request(attempt, limits, first)]
    requests += [ProcessRequest(compute=_Compute(payload=_Chunk(data=chunk))) for chunk in others]
    requests.append(_PAYLOAD_COMPLETE)
    for key in attempt.data_dependencies:
        datum = (attempt.inputs or {})[key]
        assert isinstance(datum, bytes)
        requests.append(ProcessRequest(compute=_Compute(init_data=_Compute.InitData(key=key))))
        requests += [ProcessRequest(compute=_Compute(data=_Chunk(data=chunk))) for chunk in chunks(datum, longest)]
        requests.append(_DATA_COMPLETE)
    requests.append(_LAST_DATA)
    return requests


async def opening(attempt: Attempt, limits: Limits) -> AsyncIterator[ProcessRequest]:
    """Yield the messages of an opening in bounded memory; files are read as it goes on."""
    longest = limits.data_chunk_max_size
    payload = attempt.spooled_payload if attempt.spooled_payload is not None else attempt.payload
    assert isinstance(payload, bytes | Spooled)
    first = True
    async for chunk in read_chunks(payload, longest):
        if first:
            yield _init_request(attempt, limits, chunk)
            first = False
        else:
            yield ProcessRequest(compute=_Compute(payload=_Chunk(data=chunk)))
    yield _PAYLOAD_COMPLETE
    for key in attempt.data_dependencies:
        yield ProcessRequest(compute=_Compute(init_data=_Compute.InitData(key=key)))
        async for chunk in read_chunks((attempt.inputs or {})[key], longest):
            yield ProcessRequest(compute=_Compute(data=_Chunk(data=chunk)))
        yield _DATA_COMPLETE
    yield _LAST_DATA


def items_with_files(attempt: Attempt, limits: Limits) -> Iterator[BatchRequest.Item]:
    """Yield the opening for a worker that reads this agent's files: an item for each datum, files by path."""
    number, place, longest = attempt.number, attempt.place, limits.data_chunk_max_size

    def item(begun: list[ProcessRequest], datum: Input) -> BatchRequest.Item:
        if isinstance(datum, Spooled):
            file = BatchRequest.File(path=str(datum.path), size=datum.size)
            return BatchRequest.Item(attempt=number, place=place, requests=begun, file=file)
        more = [ProcessRequest(compute=_Compute(data=_Chunk(data=chunk))) for chunk in chunks(datum, longest)]
        return BatchRequest.Item(attempt=number, place=place, requests=[*begun, *more])

    payload = attempt.spooled_payload if attempt.spooled_payload is not None else attempt.payload
    assert isinstance(payload, bytes | Spooled)
    if isinstance(payload, Spooled):
        yield item([_init_request(attempt, limits, b"")], payload)
    else:
        first, *others = chunks(payload, longest)
        more = [ProcessRequest(compute=_Compute(payload=_Chunk(data=chunk))) for chunk in others]
        yield BatchRequest.Item(attempt=number, place=place, requests=[_init_request(attempt, limits, first), *more])
    complete = _PAYLOAD_COMPLETE
    for key in attempt.data_dependencies:
        begun = ProcessRequest(compute=_Compute(init_data=_Compute.InitData(key=key)))
        yield item([complete, begun], (attempt.inputs or {})[key])
        complete = _DATA_COMPLETE
    yield BatchRequest.Item(attempt=number, place=place, requests=[complete, _LAST_DATA])


async def read_chunks(datum: Input, chunk_bytes: int) -> AsyncIterator[bytes]:
    """Yield a datum in chunks of at most ``chunk_bytes``; an empty datum is one empty chunk.

    Raises:
        OSError: if a file cannot be read, or is shorter than its size says.
    """
    if isinstance(datum, bytes):
        for chunk in chunks(datum, chunk_bytes):
            yield chunk
        return
    left = datum.size
    if not left:
        yield b""
    with datum.path.open("rb") as file:
        while left > 0:
            # Several chunks are read at once, because a trip to a thread costs as much as a chunk.
            block = await asyncio.to_thread(file.read, min(left, 8 * chunk_bytes))
            if not block:
                raise OSError(f"{datum.path.name} ended {left} bytes early")
            left -= len(block)
            for chunk in chunks(block, chunk_bytes):
                yield chunk


def _init_request(attempt: Attempt, limits: Limits, first_chunk: bytes) -> ProcessRequest:
    init = _Compute.InitRequest(
        configuration=objects_pb2.Configuration(data_chunk_max_size=limits.data_chunk_max_size),
        session_id=attempt.session_id,
        task_id=attempt.id,
        task_options=attempt.options.options,
        expected_output_keys=attempt.expected_output_keys,
        payload=_Chunk(data=first_chunk),
    )
    return ProcessRequest(compute=_Compute(init_request=init))
