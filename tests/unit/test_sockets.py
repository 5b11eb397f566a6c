"""Directories for sockets: short and plain ones are found, and what is missing is said."""

import tempfile
from pathlib import Path

import pytest

from ripieno import sockets
from ripieno.domain.addresses import LONGEST_SOCKET_PATH_BYTES
from ripieno.sockets import is_fit_for_sockets, is_short_enough, parent_for_sockets


@pytest.mark.parametrize("odd", ["a b", "100%", "C#", "what?", "Jörg", "a,b", "~", "back\\slash"])
def test_an_odd_path_is_not_for_every_program(odd: str) -> None:
    assert is_short_enough(Path("/tmp") / odd, "s")
    assert not is_fit_for_sockets(Path("/tmp") / odd, "s")


def test_the_longest_path_that_a_socket_can_have_fits_and_no_longer_one() -> None:
    room = LONGEST_SOCKET_PATH_BYTES - len("/d/")
    assert is_fit_for_sockets(Path("/d"), "s" * room)
    assert not is_fit_for_sockets(Path("/d"), "s" * (room + 1))


@pytest.mark.parametrize("name", ["x" * 150, "a b"])
def test_the_usual_place_is_passed_over_where_no_socket_can_lie(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    found = parent_for_sockets("private/socket")
    assert found.is_dir()
    assert is_fit_for_sockets(found, "private/socket")


def test_what_was_tried_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sockets, "_USUAL", ("/nonexistent",))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(OSError, match="set TMPDIR") as told:
        parent_for_sockets("s" * 100)
    assert str(tmp_path) in str(told.value)
