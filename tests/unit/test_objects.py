"""Objects that are files: whole and on the disk, or not there at all."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from ripieno import objects
from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.domain.errors import UnavailableError
from ripieno.objects import PIECE_BYTES, FileWriter, ObjectFile, fresh_name, is_readable, is_writable, make_folders

PATIENCE_S = 10.0


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def some_bytes(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Gate:
    """Holds a system call up: it has ``begun`` and waits until the test lets it ``go``."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        return self._call(*arguments)

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, PATIENCE_S)


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Gate]]:
    """``gate = gated("write")`` holds ``os.write`` up; whoever still waits at the end is let go."""
    gates = []

    def hold(name: str) -> Gate:
        gate = Gate(getattr(os, name))
        gates.append(gate)
        monkeypatch.setattr(os, name, gate)
        return gate

    yield hold
    for gate in gates:
        gate.go.set()


@pytest.fixture(autouse=True)
def no_file_stays_open() -> Iterator[None]:
    process = psutil.Process()
    before = {file.path for file in process.open_files()}
    yield
    # A thread whose caller was cancelled may be about to close its own.
    give_up_at = time.monotonic() + 10
    while not (opened := {file.path for file in process.open_files()}) <= before:
        assert time.monotonic() < give_up_at, opened
        time.sleep(0.01)


class TestObjectFile:
    def test_pieces_of_any_kind_one_after_the_other(self, tmp_path: Path) -> None:
        file = ObjectFile(tmp_path, "ab/object")
        for piece in (b"bytes ", bytearray(b"bytearray "), b"", memoryview(b"-memoryview-")[1:-1]):
            file.append(piece)
        file.finish()
        assert (tmp_path / "ab/object").read_bytes() == b"bytes bytearray memoryview"
        assert file.name == "ab/object"

    def test_nothing_is_there_before_the_first_piece(self, tmp_path: Path) -> None:
        file = ObjectFile(tmp_path, "object")
        assert files(tmp_path) == []
        file.finish()
        assert (tmp_path / "object").read_bytes() == b""

    def test_a_write_that_takes_a_part_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
        file = ObjectFile(tmp_path, "object")
        file.append(b"12345678")
        file.finish()
        assert (tmp_path / "object").read_bytes() == b"12345678"

    def test_the_file_and_its_folders_are_on_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced = []
        fsync = os.fsync

        def record(file: int) -> None:
            synced.append(Path(f"/proc/self/fd/{file}").readlink() if Path("/proc").exists() else Path())
            fsync(file)

        monkeypatch.setattr(os, "fsync", record)
        file = ObjectFile(tmp_path, "ab/object")
        file.append(b"x")
        file.finish()
        assert len(synced) == 3
        if Path("/proc").exists():
            assert synced == [tmp_path, tmp_path / "ab/object", tmp_path / "ab"]

    def test_what_is_discarded_is_gone(self, tmp_path: Path) -> None:
        file = ObjectFile(tmp_path, "object")
        file.append(b"x")
        file.discard()
        assert files(tmp_path) == []
        file.append(b"too late")
        file.finish()
        file.discard()
        assert files(tmp_path) == []

    def test_what_is_discarded_before_it_was_begun_never_is(self, tmp_path: Path) -> None:
        file = ObjectFile(tmp_path, "object")
        file.discard()
        file.append(b"too late")
        file.finish()
        assert files(tmp_path) == []

    def test_what_is_finished_may_be_discarded(self, tmp_path: Path) -> None:
        file = ObjectFile(tmp_path, "object")
        file.append(b"x")
        file.finish()
        file.discard()
        assert files(tmp_path) == []

    def test_a_file_that_is_there_is_another_ones(self, tmp_path: Path) -> None:
        (tmp_path / "object").write_bytes(b"another one's")
        file = ObjectFile(tmp_path, "object")
        with pytest.raises(FileExistsError):
            file.append(b"mine")
        with pytest.raises(FileExistsError):
            file.finish()
        for _ in range(2):
            file.discard()
        assert (tmp_path / "object").read_bytes() == b"another one's"

    @pytest.mark.parametrize("call", ["write", "fsync"])
    def test_discarded_while_another_thread_uses_it(
        self, tmp_path: Path, gated: Callable[[str], Gate], call: str
    ) -> None:
        file = ObjectFile(tmp_path, "object")
        file.append(b"1")
        gate = gated(call)
        discarding = threading.Event()

        def discard() -> None:
            discarding.set()
            file.discard()

        with ThreadPoolExecutor(2) as threads:
            using = threads.submit(file.append, b"2") if call == "write" else threads.submit(file.finish)
            assert gate.begun.wait(PATIENCE_S)
            discarded = threads.submit(discard)
            assert discarding.wait(PATIENCE_S)
            assert not discarded.done(), "closed under the hands of a thread that writes"
            gate.go.set()
            using.result(PATIENCE_S)
            discarded.result(PATIENCE_S)
        assert files(tmp_path) == []

    def test_discarded_at_any_moment(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(1) as threads:
            for number in range(200):
                file = ObjectFile(tmp_path, f"ab/{number}")

                def write(file: ObjectFile = file) -> None:
                    for _ in range(5):
                        file.append(b"x")
                    file.finish()

                writing = threads.submit(write)
                file.discard()
                writing.result(PATIENCE_S)
        assert files(tmp_path) == []

    def test_a_disk_that_does_not_let_go_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is garbage and noted as such; what discards it has enough to do."""
        file = ObjectFile(tmp_path, "object")
        file.append(b"x")

        def fail(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", fail)
            file.discard()
        assert files(tmp_path) == ["object"]

    def test_a_disk_that_fails_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = ObjectFile(tmp_path, "object")
        file.append(b"x")

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            file.finish()
        file.discard()
        assert files(tmp_path) == []


class TestFileWriter:
    @pytest.mark.parametrize("chunk_bytes", [1_000, 84_000, PIECE_BYTES, 5 * PIECE_BYTES])
    @pytest.mark.parametrize(
        "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 7]
    )
    async def test_what_is_written_is_there(self, tmp_path: Path, size: int, chunk_bytes: int) -> None:
        data = some_bytes(size)
        async with FileWriter(tmp_path, "ab/object") as writer:
            for start in range(0, size, chunk_bytes):
                await writer.write(data[start : start + chunk_bytes])
        assert writer.stored == StoredObject("ab/object", size, hashlib.sha256(data).digest())
        assert (tmp_path / "ab/object").read_bytes() == data

    @pytest.mark.parametrize("pieces", [0, 1, 3])
    async def test_an_error_inside_leaves_nothing(self, tmp_path: Path, pieces: int) -> None:
        with pytest.raises(ValueError, match="in the middle"):
            await write(tmp_path, pieces, ValueError("in the middle"))
        assert files(tmp_path) == []

    @pytest.mark.parametrize("pieces", [0, 1, 3])
    async def test_a_directory_that_takes_nothing_is_unavailable(self, tmp_path: Path, pieces: int) -> None:
        (tmp_path / "place").write_text("in the way")
        with pytest.raises(UnavailableError, match=r"the object store takes no data: .*Not a directory"):
            await write(tmp_path / "place", pieces)

    @pytest.mark.parametrize("call", ["write", "fsync"])
    @pytest.mark.parametrize("pieces", [1, 3])
    async def test_a_disk_that_is_full_is_unavailable(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int, call: str
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(UnavailableError, match="No space left"):
            await write(tmp_path, pieces)
        assert files(tmp_path) == []

    @pytest.mark.parametrize("pieces", [0, 3])
    async def test_a_file_that_is_there_is_another_ones(self, tmp_path: Path, pieces: int) -> None:
        (tmp_path / "object").write_bytes(b"another one's")
        with pytest.raises(UnavailableError, match="File exists"):
            await write(tmp_path, pieces)
        assert (tmp_path / "object").read_bytes() == b"another one's"

    @pytest.mark.parametrize(("call", "pieces"), [("write", 3), ("write", 0), ("fsync", 0), ("fsync", 3)])
    async def test_cancelled_in_the_middle(
        self, tmp_path: Path, gated: Callable[[str], Gate], call: str, pieces: int
    ) -> None:
        gate = gated(call)
        writing = asyncio.create_task(write(tmp_path, pieces))
        await gate.until_begun()
        writing.cancel()
        gate.go.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert files(tmp_path) == []

    async def test_cancelled_again_while_it_discards(self, tmp_path: Path, gated: Callable[[str], Gate]) -> None:
        gate = gated("write")
        writing = asyncio.create_task(write(tmp_path, 3))
        await gate.until_begun()
        for _ in range(3):
            writing.cancel()
            await asyncio.sleep(0)
        gate.go.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await until(lambda: files(tmp_path) == [])

    async def test_cancelled_while_an_error_waits_for_the_piece_before(
        self, tmp_path: Path, gated: Callable[[str], Gate]
    ) -> None:
        gate = gated("write")
        writing = asyncio.create_task(write(tmp_path, 1, ValueError("in the middle")))
        await gate.until_begun()
        writing.cancel()
        gate.go.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await until(lambda: files(tmp_path) == [])

    async def test_a_writer_does_not_run_ahead_of_the_disk(self, tmp_path: Path, gated: Callable[[str], Gate]) -> None:
        gate = gated("write")
        taken = 0

        async def fill() -> None:
            nonlocal taken
            async with FileWriter(tmp_path, "object") as writer:
                for _ in range(5):
                    await writer.write(bytes(PIECE_BYTES))
                    taken += 1

        writing = asyncio.create_task(fill())
        await gate.until_begun()
        for _ in range(10):
            await asyncio.sleep(0)
        assert taken == 1
        gate.go.set()
        await writing
        assert (tmp_path / "object").stat().st_size == 5 * PIECE_BYTES


async def write(directory: Path, pieces: int, error: Exception | None = None) -> None:
    """An object of some pieces and a bit, and an error on its way."""
    async with FileWriter(directory, "object") as writer:
        for _ in range(pieces):
            await writer.write(bytes(PIECE_BYTES))
        await writer.write(b"and a bit")
        if error is not None:
            raise error


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - a thread brings it about
            await asyncio.sleep(0.002)


class TestDirectory:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> ObjectDirectory:
        (tmp_path / "proof").write_text("it is this one")
        return ObjectDirectory(str(tmp_path), "proof", "it is this one")

    def test_one_that_is_before_us(self, directory: ObjectDirectory) -> None:
        assert is_readable(directory)
        assert is_writable(directory)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: (path / "proof").write_text("it is another one"),
            lambda path: (path / "proof").write_text("it is this one\n"),
            lambda path: (path / "proof").write_bytes(b"\xff\xfe"),
            lambda path: (path / "proof").write_bytes(b""),
            lambda path: (path / "proof").unlink(),
            lambda path: ((path / "proof").unlink(), (path / "proof").mkdir()),
            lambda path: ((path / "proof").unlink(), path.rmdir()),
        ],
        ids=["other proof", "longer proof", "no text", "empty", "no file", "a folder", "no directory"],
    )
    def test_one_without_the_proof(self, directory: ObjectDirectory, spoil: Callable[[Path], object]) -> None:
        spoil(Path(directory.path))
        assert not is_readable(directory)
        assert not is_writable(directory)

    def test_one_that_is_read_only(self, directory: ObjectDirectory) -> None:
        # Root may write anywhere: its answer is asked of a process that is somebody else.
        path = Path(directory.path)
        path.chmod(0o555)
        try:
            if os.geteuid() != 0:
                assert is_readable(directory) and not is_writable(directory)
            else:
                assert is_writable(directory)
        finally:
            path.chmod(0o755)

    def test_one_that_says_read_only(self, directory: ObjectDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: mode & os.W_OK == 0)
        assert is_readable(directory)
        assert not is_writable(directory)

    def test_one_of_another_user(self, directory: ObjectDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert is_readable(directory)
        assert not is_writable(directory)

    def test_one_that_goes_while_it_is_looked_at(
        self, directory: ObjectDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(objects, "is_readable", lambda _: True)
        (Path(directory.path) / "proof").unlink()
        Path(directory.path).rmdir()
        assert not is_writable(directory)

    def test_folders_for_all_names(self, tmp_path: Path) -> None:
        (tmp_path / "0a").mkdir()
        (tmp_path / "0a/object").write_bytes(b"x")
        for _ in range(2):
            make_folders(tmp_path)
        assert len(list(tmp_path.iterdir())) == 256
        assert files(tmp_path) == ["0a/object"]
        for _ in range(300):
            assert (tmp_path / fresh_name()).parent.is_dir()

    def test_names_are_never_the_same(self) -> None:
        assert len({fresh_name() for _ in range(1_000)}) == 1_000
