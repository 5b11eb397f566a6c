"""Where large data lies: agreed on once, and the directory is known by its marker."""

import asyncio
from pathlib import Path

import pytest

from ripieno.domain.errors import InvalidRequestError
from ripieno.store.cluster.cluster import agree_on_objects
from ripieno.store.database.database import Database


@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_another_directory_of_the_same_path_is_told_apart(database: Database, tmp_path: Path, form: str) -> None:
    place = tmp_path / "objects"
    wanted = form.format(place)
    assert await agree_on_objects(database, wanted) == wanted
    assert await agree_on_objects(database, None) == wanted
    place.rename(tmp_path / "on-the-other-host")
    for again in (wanted, None):
        with pytest.raises(InvalidRequestError, match="is not that one"):
            await agree_on_objects(database, again)
    place.mkdir()  # what is not mounted looks like this
    with pytest.raises(InvalidRequestError, match="is not that one"):
        await agree_on_objects(database, wanted)
    assert list(place.iterdir()) == []


async def test_a_directory_that_was_moved_is_known_again(database: Database, tmp_path: Path) -> None:
    await agree_on_objects(database, str(tmp_path / "before"))
    (tmp_path / "before").rename(tmp_path / "after")
    assert await agree_on_objects(database, str(tmp_path / "after")) == str(tmp_path / "after")
    assert await agree_on_objects(database, None) == str(tmp_path / "after")


async def test_another_place_is_refused(database: Database, tmp_path: Path) -> None:
    await agree_on_objects(database, str(tmp_path / "one"))
    with pytest.raises(InvalidRequestError, match="keeps large data at"):
        await agree_on_objects(database, str(tmp_path / "other"))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "cluster-id").write_text("somebody else")
    with pytest.raises(InvalidRequestError, match="another cluster"):
        await agree_on_objects(database, str(tmp_path / "foreign"))


async def test_two_that_start_at_once_agree(database: Database, tmp_path: Path) -> None:
    said = await asyncio.gather(
        *(agree_on_objects(database, str(tmp_path / name)) for name in ("one", "other")), return_exceptions=True
    )
    assert sum(isinstance(each, str) for each in said) == 1
    assert sum(isinstance(each, InvalidRequestError) for each in said) == 1


async def test_a_place_that_cannot_be_used_is_named(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        await agree_on_objects(database, str(tmp_path / "file" / "objects"))
