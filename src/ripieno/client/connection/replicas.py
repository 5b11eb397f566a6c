"""One channel to each of several replicas, of which one is used at a time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from ripieno.domain.addresses import Address
from ripieno.wire.channels import Options, open_channel

#: Calls that fail within this time of each other turn to the next replica only once.
_TURN_S = 0.1


class Replicas:
    """A stand-in for a gRPC channel: each call of a stub begins on the replica that is used just then.

    Calls that are under way stay on their replica.
    """

    def __init__(self, addresses: Sequence[Address], options: Options, *, use_proxy: bool) -> None:
        self._addresses = addresses
        self._options = options
        self._use_proxy = use_proxy
        self._channels: list[grpc.aio.Channel | None] = [None] * len(addresses)
        self._used = 0
        self._turned_at = float("-inf")

    def turn(self) -> None:
        """Begin calls on the next replica, if any, from now on; no-op within ``_TURN_S`` of the last turn."""
        now = asyncio.get_running_loop().time()
        if len(self._addresses) > 1 and now - self._turned_at >= _TURN_S:
            self._turned_at = now
            self._used = (self._used + 1) % len(self._addresses)

    async def close(self) -> None:
        """End all calls and close all channels."""
        channels, self._channels = self._channels, [None] * len(self._addresses)
        for channel in channels:
            if channel is not None:
                await channel.close()

    def unary_unary(self, *method: Any, **how: Any) -> Any:
        """Return a unary-unary method whose calls go to the replica in use; the other kinds likewise."""
        return self._method(lambda channel: channel.unary_unary(*method, **how))

    def unary_stream(self, *method: Any, **how: Any) -> Any:
        return self._method(lambda channel: channel.unary_stream(*method, **how))

    def stream_unary(self, *method: Any, **how: Any) -> Any:
        return self._method(lambda channel: channel.stream_unary(*method, **how))

    def stream_stream(self, *method: Any, **how: Any) -> Any:
        return self._method(lambda channel: channel.stream_stream(*method, **how))

    def _method(self, made_on: Callable[[grpc.aio.Channel], Any]) -> Any:
        if len(self._addresses) == 1:
            return made_on(self._channel(0))  # nothing to choose at each call
        made: list[Any] = [None] * len(self._addresses)

        def call(*arguments: Any, **how: Any) -> Any:
            used = self._used
            if made[used] is None:
                made[used] = made_on(self._channel(used))
            return made[used](*arguments, **how)

        return call

    def _channel(self, number: int) -> grpc.aio.Channel:
        channel = self._channels[number]
        if channel is None:
            channel = self._channels[number] = open_channel(
                self._addresses[number], self._options, use_proxy=self._use_proxy
            )
        return channel
