"""What all replicas of a cluster agree on: where large data lies.

The first replica decides, the others follow. A local directory bears a marker that names its
cluster, put there before the place is agreed on: a directory that was moved is known by it, and
another one at the same path (of another host, or of a file system that is not mounted just now) is
not taken for it.
"""

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ripieno.domain.errors import InvalidRequestError, RipienoError
from ripieno.objects import store_fault
from ripieno.store.database.database import Database

#: In a local directory of objects: the cluster that they belong to.
_MARKER = "cluster-id"


async def agree_on_objects(database: Database, wanted: str | None) -> str:
    """Where large data lies: the first replica decides, the others follow.

    Args:
        wanted: URL or directory; None takes what was agreed, or, for the first replica,
            a directory of the user's own that is named after the cluster.

    Raises:
        InvalidRequestError: another place was agreed before, or the directory there is not the one
            that was agreed on. Data lies there.
        UnavailableError: the directory cannot be written to just now.
    """
    row = await database.fetchrow("select cluster_id::text, objects from cluster")
    assert row is not None  # the first migration inserts it
    cluster_id, agreed = row["cluster_id"], row["objects"]
    place = _place(wanted, cluster_id) if wanted is not None or agreed is None else agreed
    marker = await asyncio.to_thread(_read_marker, place)
    if marker not in (None, cluster_id):
        raise InvalidRequestError(
            "objects", f"{place!r} belongs to another cluster ({marker}), this one is {cluster_id}; give another place"
        )
    if agreed is None:
        # The marker first: whoever finds the place agreed on finds the marker.
        await asyncio.to_thread(_mark, place, cluster_id)
        chosen = await database.fetchrow("update cluster set objects = coalesce(objects, $1) returning objects", place)
        assert chosen is not None  # it has one row for good
        agreed = chosen["objects"]
    elif place != agreed and marker == cluster_id:
        await database.fetch("update cluster set objects = $1", place)  # the directory has moved
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
    """Where it is one; None for a store that all hosts see alike."""
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
    """A full disk may have room later; whatever else keeps us from a directory has to be changed by somebody."""
    fault = store_fault(f"the object store at {place!r} cannot be used", error)
    if "make room" in fault.detail:
        return fault
    return InvalidRequestError("objects", f"{place!r} cannot be used: {error}")
