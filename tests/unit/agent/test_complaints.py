"""Complaints about workers: one line each, and each once."""

import logging

import pytest

from ripieno.agent.scheduling.complaints import Complaints


def test_a_complaint_of_several_lines_is_logged_in_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Complaints().say("w/0", "ended with exit code 2; it printed last:\nno module 'x'\ninstall it")
    assert caplog.messages == ["worker w/0: ended with exit code 2; it printed last: no module 'x' / install it"]


def test_workers_that_fail_for_one_reason_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    with caplog.at_level(logging.WARNING):
        for number in range(60):
            complaints.say(f"w/{number}", f"process {number} ended with exit code 2")
        complaints.say("w/0", "something else")
    assert len(caplog.messages) == 2
