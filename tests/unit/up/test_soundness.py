"""Strange data directories: what is wrong is said, with the way out, before anything is made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ripieno.up import soundness
from ripieno.up.errors import UpError
from ripieno.up.soundness import check_soundness, network_file_system


def _file(place: Path) -> None:
    place.write_text("")


def _server(place: Path) -> None:
    place.mkdir()
    (place / "PG_VERSION").write_text("18\n")


def _without_version(place: Path) -> None:
    (place / "postgres" / "base").mkdir(parents=True)


def _database_is_a_file(place: Path) -> None:
    place.mkdir()
    (place / "postgres").write_text("")


def _logs_are_a_file(place: Path) -> None:
    place.mkdir()
    (place / "logs").write_text("")


def _scratch_is_a_file(place: Path) -> None:
    place.mkdir()
    (place / "scratch").write_text("")


def _lost_link(place: Path) -> None:
    place.symlink_to("/nonexistent/volume")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_file, "it is a file"),
        (_server, "--database URL"),
        (_without_version, "no PG_VERSION"),
        (_database_is_a_file, "not a directory"),
        (_logs_are_a_file, "logs is not a directory"),
        (_scratch_is_a_file, "scratch is not a directory"),
        (_lost_link, "/nonexistent/volume"),
    ],
)
def test_what_cannot_be_a_data_directory_is_said_and_left_alone(
    make: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    place = tmp_path / "data"
    make(place)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UpError, match="--data") as told:
        check_soundness(place)
    assert says in str(told.value) and str(place) in str(told.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_or_empty_directory_is_fine(tmp_path: Path) -> None:
    check_soundness(tmp_path)
    check_soundness(tmp_path / "a" / "b")
    (tmp_path / "postgres").mkdir()
    check_soundness(tmp_path)


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpError, match=r"too long.*--data"):
        check_soundness(tmp_path / ("x" * 300))


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UpError, match=f"belongs to user id {owner}, this is user id {owner + 1}"):
        check_soundness(tmp_path)


def test_a_full_disk_is_told_before_a_database_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_000_000))
    with pytest.raises(UpError, match="3 MB are free there, and a new database takes 100 MB"):
        check_soundness(tmp_path / "data")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18")
    check_soundness(tmp_path)  # what was kept there can be drained


@pytest.mark.parametrize(("kind", "found"), [("nfs4", "nfs4"), ("cifs", "cifs"), ("ext4", None)])
def test_a_file_system_of_another_machine_is_known(
    kind: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundness, "_kinds_of_mounts", lambda: {"/": "ext4", str(tmp_path.resolve()): kind})
    place = tmp_path / "data"
    place.mkdir()
    assert network_file_system(place) == found
    assert network_file_system(Path("/")) is None
