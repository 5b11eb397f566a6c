"""The client and the worker that are made of bare stubs: real processes, on a cluster that the worker is attached to.

Both run twice: with the stubs that come with the product, and with stubs that nothing but
protoc has made of its .proto files, as people do for another language.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import pytest_asyncio
from grpc_tools import protoc

from protocol.cluster import cluster
from protocol.deadlines import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
BARE = ROOT / "examples" / "bare"
PROTOS = Path("ripieno/wire/protos/armonik_v2")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to import freshly compiled stubs from, under the names of the product's own."""
    target = tmp_path_factory.mktemp("stubs")
    sources = [str(path) for path in sorted((ROOT / "src" / PROTOS).glob("*.proto"))]
    includes = [f"-I{ROOT / 'src'}", f"-I{files('grpc_tools') / '_proto'}"]
    assert protoc.main(["protoc", *includes, f"--python_out={target}", f"--grpc_python_out={target}", *sources]) == 0
    # A package, so that it goes before the installed one; what is below it needs no such file.
    (target / "ripieno" / "__init__.py").touch()
    return target


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    # A socket's path may not be longer than about 100 bytes.
    directory = Path(tempfile.mkdtemp(prefix="rp-b-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["our stubs", "compiled stubs"])
def environment(request: pytest.FixtureRequest, compiled: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(compiled)} if request.param == "compiled stubs" else {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(sockets: Path, compiled: Path) -> AsyncIterator[str]:
    """A cluster of two attached workers, one with each kind of stubs."""
    async with (
        _worker(f"unix:{sockets}/ours", {}) as ours,
        _worker(f"unix:{sockets}/compiled", {"PYTHONPATH": str(compiled)}) as other,
        cluster(attach=[ours, other]) as up,
    ):
        yield up.address


@contextlib.asynccontextmanager
async def _worker(address: str, environment: dict[str, str]) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BARE / "worker.py"),
        env={**os.environ, **environment, "RIPIENO_WORKER_ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == f"worker ready on {address}\n".encode()
        yield address
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _count(address: str, environment: dict[str, str], *files: Path) -> tuple[int | None, list[str]]:
    """Run the client; its exit code and the lines it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BARE / "client.py"),
        *map(str, files),
        env={**os.environ, **environment, "RIPIENO_ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * PATIENCE_S):
        output, errors = await process.communicate()
    assert errors == b""
    return process.returncode, output.decode().splitlines()


def _line(name: str, words: Counter[str]) -> str:
    often = max(words, key=lambda word: (words[word], word), default="")
    return f"{name}: {words.total()} words, {len(words)} different, most often {often!r}"


async def test_words_of_small_and_large_files(address: str, environment: dict[str, str], tmp_path: Path) -> None:
    generator = random.Random(5)
    trees = ["oak", "elm", "ash", "yew", "größe"]
    texts = {
        "small.txt": "one two\ntwo",
        "empty.txt": "",
        # Four times the longest chunk, in parts of 50,000 bytes.
        "large.txt": "\n".join(" ".join(generator.choices(trees, k=12)) for _ in range(7_000)),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    code, lines = await _count(address, environment, *(tmp_path / name for name in texts))

    words = {name: Counter(text.split()) for name, text in texts.items()}
    expected = [_line(name, counted) for name, counted in words.items()]
    expected.append(_line("total", words["small.txt"] + words["empty.txt"] + words["large.txt"]))
    assert (code, lines[:-1]) == (0, expected)
    # Four tasks of the client, and the sub-tasks of the large one: its parts and their sum.
    parts = len((tmp_path / "large.txt").read_bytes()) // 50_000 + 1
    assert lines[-1] == f"{4 + parts + 1} TASK_STATUS_COMPLETED"


async def test_a_file_that_is_no_text(address: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("word")
    (tmp_path / "bad.bin").write_bytes(b"abc\xff")

    code, lines = await _count(address, environment, tmp_path / "good.txt", tmp_path / "bad.bin")

    good, bad, total, counts = lines
    assert code == 1
    assert good == _line("good.txt", Counter(["word"]))
    reason = "TASK_STATUS_ERROR: the payload is not text: invalid start byte at byte 3"
    assert bad.endswith(f"did not make it: {reason}"), "one attempt: an Output error is final"
    assert "input 'words of 1' was aborted" in total
    assert "the payload is not text" in total
    assert counts == "1 TASK_STATUS_COMPLETED, 2 TASK_STATUS_ERROR"


async def test_compiled_stubs_are_those_that_are_imported(compiled: Path) -> None:
    module = "ripieno.wire.protos.armonik_v2.worker_service_pb2"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import {module} as stubs; print(stubs.__file__)",
        env={**os.environ, "PYTHONPATH": str(compiled)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert output.decode().startswith(str(compiled))
