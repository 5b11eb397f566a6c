"""An object store on this machine is reached directly, whatever proxy the environment names."""

import asyncio
import os
import subprocess
import sys

import pytest

from ripieno.cli.terms.proxies import keep_loopback_direct

#: Puts one object by way of obstore, as the control plane does, in an environment of its own.
_PUT = """
from ripieno.cli.terms.proxies import keep_loopback_direct
keep_loopback_direct()
import obstore
obstore.put(obstore.store.from_url("s3://bucket/prefix"), "name", b"data")
"""


async def test_a_store_on_loopback_is_not_asked_for_by_the_proxy() -> None:
    asked: list[str] = []

    def answering(name: str, status: str) -> "asyncio.Task[asyncio.Server]":
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.append(name)
            writer.write(f'HTTP/1.1 {status}\r\nETag: "x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'.encode())
            writer.close()

        return asyncio.create_task(asyncio.start_server(answer, "127.0.0.1", 0))

    store, proxy = await answering("store", "200 OK"), await answering("proxy", "403 Forbidden")
    async with store, proxy:
        ports = [server.sockets[0].getsockname()[1] for server in (store, proxy)]
        environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports[0]}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_REGION": "nowhere",
            "AWS_ALLOW_HTTP": "true",
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"), f"http://127.0.0.1:{ports[1]}"),
        }
        put = [sys.executable, "-c", _PUT]
        done = await asyncio.to_thread(subprocess.run, put, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert asked == ["store"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"no_proxy": "localhost,127.0.0.0/8,::1"}),
        ({"NO_PROXY": "a.example, ::1"}, {"NO_PROXY": "a.example,::1,localhost,127.0.0.0/8"}),
        (
            {"NO_PROXY": "a", "no_proxy": "b"},
            {name: f"{one},localhost,127.0.0.0/8,::1" for name, one in (("NO_PROXY", "a"), ("no_proxy", "b"))},
        ),
        ({"no_proxy": "*"}, {"no_proxy": "*"}),
    ],
)
def test_exceptions_that_were_made_before_stay(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    keep_loopback_direct(environment)
    assert environment == after
    keep_loopback_direct(environment)
    assert environment == after
