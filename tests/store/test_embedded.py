"""The embedded PostgreSQL: kept data, leftovers, odd directories, no orphan."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import asyncpg
import psutil
import pytest

from cli.running import alive, until
from ripieno.store.embedded import EmbeddedPostgres, EmbeddedPostgresError
from ripieno.store.embedded import server as server_module
from ripieno.store.embedded.settings import for_disk

OWNER = """
import asyncio, sys
from pathlib import Path
from ripieno.store.embedded import EmbeddedPostgres

async def own() -> None:
    server = EmbeddedPostgres(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


def start_owner(data: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Another process that owns a server on ``data``; and that server."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(data)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, psutil.Process(int(owner.stdout.readline()))


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


async def fetch(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_data_are_kept_and_the_settings_hold(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "data") as url:
        assert await fetch(url, "select current_database()") == "ripieno"
        assert await fetch(url, "show server_encoding") == "UTF8"
        assert await fetch(url, "show fsync") == "on"
        assert await fetch(url, "show listen_addresses") == ""
        await fetch(url, "create table kept as select 42 as n")
    async with EmbeddedPostgres(tmp_path / "data") as url:
        assert await fetch(url, "select n from kept") == 42


async def test_only_its_user_enters_the_directory_of_the_socket(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "data"):
        assert (tmp_path / "data" / ".s.PGSQL.5432").is_socket()
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["d" * 150, "space and, comma"])
async def test_a_directory_that_cannot_hold_the_socket(tmp_path: Path, name: str) -> None:
    server = EmbeddedPostgres(tmp_path / name / "data")
    url = await server.start()
    assert "ripieno-pg-" in url
    assert await fetch(url, "select 1") == 1
    await server.stop()
    sockets = url.partition("host=")[2].partition("&")[0].replace("%2F", "/")
    assert not Path(sockets).exists()


async def test_an_interrupted_first_start_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "half").write_text("made")
    async with EmbeddedPostgres(tmp_path / "data") as url:
        assert await fetch(url, "select 1") == 1
    assert not (tmp_path / "data.new").exists()


async def test_files_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match="was made by PostgreSQL 15, this is 18"):
        await EmbeddedPostgres(tmp_path / "data").start()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", overrides={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"'):
        await server.start()


async def test_a_killed_server_is_noticed_and_starts_again_at_the_same_url(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data")
    url = await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert await server.wait() == -signal.SIGKILL
    assert await server.start() == url
    assert await fetch(url, "select 1") == 1
    await server.stop()


async def test_the_server_of_a_killed_owner_ends_by_itself(tmp_path: Path) -> None:
    owner, server = start_owner(tmp_path / "data")
    kill(owner)
    await until(lambda: not alive(server))


async def test_a_leftover_is_stopped_before_the_next_start(tmp_path: Path) -> None:
    owner, server = start_owner(tmp_path / "data")
    for sentinel in psutil.Process(owner.pid).children():
        if "ripieno-sentinel" in sentinel.cmdline():
            sentinel.kill()
    kill(owner)
    assert alive(server)
    async with EmbeddedPostgres(tmp_path / "data") as url:
        assert not alive(server)
        assert await fetch(url, "select 1") == 1


async def test_a_stale_file_that_names_a_living_stranger_is_no_obstacle(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "data"):
        pass
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path / 'data'}\n0\n5432\n\n\n\nready\n")
    async with EmbeddedPostgres(tmp_path / "data") as url:
        assert await fetch(url, "select 1") == 1


@pytest.mark.parametrize("name", ["d" * 150, "data"])
async def test_a_server_whose_socket_was_removed_ends_and_starts_again_at_the_same_url(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SOCKET_LOOK_S", 0.1)
    server = EmbeddedPostgres(tmp_path / name)
    url = await server.start()
    try:
        await fetch(url, "create table kept as select 42 as n")
        sockets = Path(unquote(url.partition("host=")[2].partition("&")[0]))
        if sockets == server.data:
            (sockets / ".s.PGSQL.5432").unlink()
        else:
            shutil.rmtree(sockets)
        assert await server.wait() == 0, "it ended in order"
        assert await server.start() == url
        assert await fetch(url, "select n from kept") == 42
    finally:
        await server.stop()


@pytest.mark.parametrize(("free_mb", "log_mb"), [(100_000, 2_048), (4_000, 1_000), (100, 256), (0, 256)])
def test_the_log_is_small_on_a_small_disk(free_mb: int, log_mb: int) -> None:
    assert for_disk(free_mb * 1024**2) == {"max_wal_size": f"{log_mb}MB"}
