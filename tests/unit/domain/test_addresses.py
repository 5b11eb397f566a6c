"""Addresses: every spelling that works, and what is said of those that do not."""

import pytest

from ripieno.domain.addresses import (
    LONGEST_SOCKET_PATH_BYTES,
    TcpAddress,
    UnixAddress,
    parse_address,
    parse_addresses,
    parse_listen_address,
    parse_worker_address,
)
from ripieno.domain.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5001", TcpAddress("127.0.0.1", 5001)),
        (" 127.0.0.1:5001\n", TcpAddress("127.0.0.1", 5001)),
        ("[::1]:65535", TcpAddress("::1", 65_535)),
        ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1)),
        ("my_service.internal:1", TcpAddress("my_service.internal", 1)),
        ("fully.qualified.:1", TcpAddress("fully.qualified.", 1)),
        ("münchen.example:1", TcpAddress("xn--mnchen-3ya.example", 1)),
        ("unix:/run/a b#c?d%2Fe.sock", UnixAddress("/run/a b#c?d%2Fe.sock")),
        ("unix:///run/w", UnixAddress("/run/w")),
    ],
)
def test_an_address_is_read_and_its_spelling_reads_the_same(text: str, expected: TcpAddress | UnixAddress) -> None:
    found = parse_address("--control", text)
    assert found == expected
    assert parse_address("--control", str(found)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "127.0.0.1:5001"),
        ("5001", "write 127.0.0.1:5001"),
        ("localhost", "write localhost:5001"),
        (":5001", "write 127.0.0.1:5001"),
        ("localhost:", "port ''"),
        ("localhost:http", "port 'http'"),
        ("localhost:70000", "65535"),
        ("localhost:-1", "port '-1'"),
        ("localhost:\u0665", "port '\u0665'"),
        ("localhost:0", "port 0"),
        ("::1:5001", "write [::1]:5001"),
        ("::1", "write [::1]:"),
        ("[::1]", "write [::1]:5001"),
        ("[::1:5001", "closing bracket"),
        ("[localhost]:5001", "no IPv6 address"),
        ("http://localhost:5001/path", "without"),
        ("256.1.1.1:80", "no IPv4 address"),
        ("two words:80", "not the name of a host"),
        ("user@host:80", "not the name of a host"),
        ("-dash:80", "not the name of a host"),
        ("a..b:80", "not the name of a host"),
        (f"{'x' * 64}.example:80", "not the name of a host"),
        ("unix:relative", "unix:/path"),
        ("unix:/nul\0", "NUL"),
        (f"unix:/{'x' * LONGEST_SOCKET_PATH_BYTES}", "shorten it"),
    ],
)
def test_what_is_no_address_is_refused_with_the_field_the_value_and_a_way_out(text: str, says: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_address("RIPIENO_ADDRESS", text)
    assert refused.value.field == "RIPIENO_ADDRESS"
    assert says in refused.value.detail or (says == "without" and "alone: localhost:5001" in refused.value.detail)
    assert refused.value.detail.startswith("RIPIENO_ADDRESS: ")


def test_one_bad_address_of_several_is_named() -> None:
    assert parse_addresses("f", "a:1, [::1]:2,unix:/s") == (TcpAddress("a", 1), TcpAddress("::1", 2), UnixAddress("/s"))
    with pytest.raises(InvalidRequestError, match="'b'"):
        parse_addresses("f", "a:1,b")


def test_servers_may_take_a_free_port_and_only_workers_a_socket() -> None:
    assert parse_listen_address("--listen", "[::]:0") == TcpAddress("::", 0)
    assert parse_worker_address("--address", "unix:/s") == UnixAddress("/s")
    assert parse_worker_address("--address", "127.0.0.1:0") == TcpAddress("127.0.0.1", 0)
    with pytest.raises(InvalidRequestError, match="unix socket"):
        parse_listen_address("--listen", "unix:/s")


def test_a_server_on_every_interface_is_reached_by_loopback() -> None:
    assert str(TcpAddress("::", 1).reachable) == "[::1]:1"
    assert str(TcpAddress("0.0.0.0", 1).reachable) == "127.0.0.1:1"
    assert str(TcpAddress("10.0.0.1", 1).reachable) == "10.0.0.1:1"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("a", False)],
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert TcpAddress(host, 1).is_loopback is loopback
