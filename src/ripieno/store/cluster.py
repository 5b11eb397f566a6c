"""What all replicas of a cluster agree on."""

from pathlib import Path

from ripieno.domain.errors import InvalidRequestError
from ripieno.store.database import Database

#: In a local directory of objects: the cluster that they belong to. By it a directory
#: that was moved is known again, and a wrong one is not.
_MARKER = "cluster-id"


async def agree_on_objects(database: Database, wanted: str | None) -> str:
    """Where large data lies: the first replica decides, the others follow.

    Args:
        wanted: URL or directory; None takes what was agreed, or, for the first replica,
            a directory of the user's own that is named after the cluster.

    Raises:
        InvalidRequestError: another place was agreed before. Data lies there.
    """
    row = await database.fetchrow("select cluster_id, objects from cluster")
    assert row is not None  # the first migration inserts it
    cluster_id = str(row["cluster_id"])
    place = _place(wanted, cluster_id)
    if wanted is not None and _belongs(place, cluster_id):
        await database.fetch("update cluster set objects = $1", place)  # the directory has moved
        return place
    chosen = await database.fetchrow("update cluster set objects = coalesce(objects, $1) returning objects", place)
    assert chosen is not None  # it has one row for good
    agreed: str = chosen["objects"]
    if wanted is not None and place != agreed:
        raise InvalidRequestError(
            "objects",
            f"this cluster keeps large data at {agreed!r}, not at {place!r};"
            " start without this option, or move the data and update the table cluster",
        )
    _mark(agreed, cluster_id)
    return agreed


def _place(wanted: str | None, cluster_id: str) -> str:
    if wanted is None:
        return str(Path.home() / ".local" / "share" / "ripieno" / cluster_id / "objects")
    return wanted if "://" in wanted else str(Path(wanted).absolute())


def _belongs(place: str, cluster_id: str) -> bool:
    marker = Path(place) / _MARKER
    return "://" not in place and marker.is_file() and marker.read_text() == cluster_id


def _mark(place: str, cluster_id: str) -> None:
    if "://" not in place:
        Path(place).mkdir(parents=True, exist_ok=True)
        (Path(place) / _MARKER).write_text(cluster_id)
