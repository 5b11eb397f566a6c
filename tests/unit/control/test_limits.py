"""Limits say their name, their value, what was asked for and the way out."""

from dataclasses import fields

import pytest

from ripieno.config import Limits
from ripieno.control.calls.limits import ControlLimits, Limit, Shares, client_of
from ripieno.domain.errors import OverloadedError

TWO = Limit("cups", 2, "cups of one guest", "drink first")


def test_what_is_within_a_limit_passes_and_what_is_beyond_is_told() -> None:
    TWO.check(2)
    with pytest.raises(OverloadedError) as refused:
        TWO.check(3_000)
    assert refused.value.detail == "limit cups is 2, and this asks for 3,000 cups of one guest; drink first"


def test_every_setting_is_a_limit_of_its_name_and_value() -> None:
    limits = ControlLimits(Limits(tasks_per_call=7))
    assert {field.name for field in fields(Limits)} == set(vars(limits))
    assert all(limit.name == name for name, limit in vars(limits).items())
    assert limits.tasks_per_call.value == 7


def test_shares_are_counted_for_each_client_and_given_back() -> None:
    shares = Shares(TWO)
    with shares.hold("a"), shares.hold("a"):
        with pytest.raises(OverloadedError), shares.hold("a"):
            pass
        with shares.hold("b", 2):
            pass
    with shares.hold("a", 2):
        pass


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.7:41234", "10.0.0.7"),
        ("ipv6:%5B::1%5D:41234", "[::1]"),
        ("unix:", "unix:"),
        ("unix:/run/ripieno", "unix:/run/ripieno"),
    ],
)
def test_a_client_is_its_host(peer: str, client: str) -> None:
    assert client_of(peer) == client
