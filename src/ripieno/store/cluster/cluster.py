"""The agreement of all replicas of a cluster on where large data is stored.

The first replica decides, the others follow. A local directory contains a marker file that names its
cluster, written before the place is agreed on: a directory that was moved is recognized by its marker, and
another directory at the same path (of another host, or of a file system that is not mounted just now) is
not mistaken for it.
"""

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ripieno.domain.errors import InvalidRequestError, RipienoError
from ripieno.objects import store_fault
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("cluster")

#: File in a local directory of objects that holds the id of the cluster they belong to.
_MARKER = "cluster-id"


async def agree_on_objects(database: Database, wanted: str | None) -> str:
    """Return the place of large data; the first replica decides on it, the others follow.

    Args:
        wanted: URL or directory that this replica asks for. None takes the place that was agreed on, or, for the
            first replica, a directory below the user's home that is named after the cluster.

    Raises:
        InvalidRequestError: another place was agreed on before, and holds data; or the directory at the place has no
            marker of this cluster, or cannot be used.
        UnavailableError: the disk of the directory is full just now.
    """
    row = await database.fetchrow(_SQL.cluster)
    assert row is not None  # the first migration inserts it
    cluster_id, agreed = row["cluster_id"], row["objects"]
    place = _place(wanted, cluster_id) if wanted is not None or agreed is None else agreed
    marker = await asyncio.to_thread(_read_marker, place)
    if marker not in (None, cluster_id):
        raise InvalidRequestError(
            "objects", f"{place!r} belongs to another cluster ({marker}), this one is {cluster_id}; give another place"
        )
    if agreed is None:
        # The marker is written first, so that a replica that finds the place agreed on finds the marker, too.
        await asyncio.to_thread(_mark, place, cluster_id)
        chosen = await database.fetchrow(_SQL.agree_on_objects, place)
        assert chosen is not None  # the table always has one row
        agreed = chosen["objects"]
    elif place != agreed and marker == cluster_id:
        await database.fetch(_SQL.move_objects, place)  # the directory has moved
        return place
    if place != agreed and wanted is not None:
        raise InvalidRequestError(
            "objects",
            f"this cluster keeps large data at {agreed!r}, not at {place!r};"
            " start without this option, or move the data and update the table cluster",
        )
    await asyncio.to_thread(_check_marker, agreed, cluster_id)
    return str(agreed)


def _place(wanted: str | None, cluster_id: str) -> str:
    if wanted is None:
        return str(Path.home() / ".local" / "share" / "ripieno" / cluster_id / "objects")
    return wanted if "://" in wanted else str(Path(wanted).absolute())


def _directory(place: str) -> Path | None:
    """Return the local directory that a place names; None for a store that all hosts see alike."""
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place)


def _read_marker(place: str) -> str | None:
    if (directory := _directory(place)) is None:
        return None
    try:
        return (directory / _MARKER).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeError) as error:
        raise _unusable(place, error) from error


def _mark(place: str, cluster_id: str) -> None:
    if (directory := _directory(place)) is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / _MARKER).write_text(cluster_id)
        except OSError as error:
            raise _unusable(place, error) from error


def _check_marker(place: str, cluster_id: str) -> None:
    if _directory(place) is not None and _read_marker(place) != cluster_id:
        raise InvalidRequestError(
            "objects",
            f"this cluster keeps large data at {place!r}, and the directory of that name here is not that one (it has"
            f" no file {_MARKER!r} with {cluster_id}): mount the one that all replicas share, or give its"
            " path on this host by --objects. If the data are gone for good, write that file, and what they were is"
            " unavailable",
        )


def _unusable(place: str, error: Exception) -> RipienoError:
    """Return the error to raise: one worth retrying for a full disk, else one that somebody has to correct."""
    fault = store_fault(f"the object store at {place!r} cannot be used", error)
    if "make room" in fault.detail:
        return fault
    return InvalidRequestError("objects", f"{place!r} cannot be used: {error}")
