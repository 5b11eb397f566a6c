import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ripieno.worker import ServeError, serve
from ripieno.worker.serving.server import prepare_address


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="rw-") as path:
        yield Path(path)


def test_a_socket_that_nobody_serves_is_removed(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    prepare_address(f"unix:{path}")
    assert not path.exists()


def test_a_socket_in_use_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ServeError, match="another process listens"):
            prepare_address(f"unix:{path}")
    assert path.exists()


def test_a_file_in_the_way_is_left_alone(folder: Path) -> None:
    (folder / "f").write_text("precious")
    with pytest.raises(ServeError, match="is not a socket"):
        prepare_address(f"unix:{folder / 'f'}")


def test_a_path_that_no_socket_can_have_is_refused(folder: Path) -> None:
    with pytest.raises(ServeError, match="has a path of"):
        prepare_address(f"unix:{folder / ('x' * 100)}")


def test_an_address_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIPIENO_WORKER_ADDRESS", raising=False)
    with pytest.raises(ServeError, match="set RIPIENO_WORKER_ADDRESS"):
        serve(lambda task: None)


def test_a_port_in_use_is_said_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"cannot listen on '127.0.0.1:{port}'"):
            serve(lambda task: None, f"127.0.0.1:{port}")
