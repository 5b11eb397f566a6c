"""What all replicas of a cluster agree on."""

from pathlib import Path

from ripieno.domain.errors import InvalidRequestError
from ripieno.store.database import Database


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
    default = Path.home() / ".local" / "share" / "ripieno" / str(row["cluster_id"]) / "objects"
    place = wanted if wanted is None or "://" in wanted else str(Path(wanted).absolute())
    chosen = await database.fetchrow(
        "update cluster set objects = coalesce(objects, $1) returning objects", place or str(default)
    )
    assert chosen is not None
    agreed: str = chosen["objects"]
    if place is not None and place != agreed:
        raise InvalidRequestError(
            "objects",
            f"this cluster keeps large data at {agreed!r}, not at {place!r};"
            " start without this option, or move the data and update the table cluster",
        )
    return agreed
