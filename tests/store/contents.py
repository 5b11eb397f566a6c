"""What the tables say, without what differs from one run to the next: times, claims, numbers."""

from collections.abc import Mapping

from ripieno.store.database.database import Database

Rows = list[tuple[object, ...]]

_TABLES = {
    # In the order of their numbers, which is the order of submission.
    "tasks": """
        select n.id, t.id, o.max_retries, o.priority, o.partition, t.expected_output_keys, t.data_dependencies, b.data
        from tasks t join sessions n using (session_no) join options o using (options_no)
        left join blobs b on b.blob_no = t.payload_no
        order by t.task_no""",
    "states": """
        select t.id, n.id, s.status, s.unmet, s.retry, s.max_retries, s.priority, s.partition, s.outputs,
               s.agent_no, s.claim is null, s.claimed_at is null, extract(epoch from s.started_at)::bigint,
               s.ended_at is null, s.worker, s.detail, s.failed_input,
               (select root.id from tasks root where root.task_no = s.root_no)
        from states s join tasks t using (task_no) join sessions n on n.session_no = s.session_no
        order by 1""",
    "earlier attempts": """
        select t.id, e.retry, e.status, e.agent_no, extract(epoch from e.started_at)::bigint, e.worker, e.detail
        from earlier_attempts e join tasks t using (task_no)
        order by 1, 2""",
    "results": """
        select n.id, r.key, t.id, r.status, r.awaited, r.ended_at is null, b.size, b.data, b.object, b.sha256
        from results r join sessions n using (session_no) left join tasks t on t.task_no = r.owner_no
        left join blobs b using (blob_no)
        order by 1, 2""",
    "dependencies": """
        select n.id, d.key, t.id
        from dependencies d join sessions n using (session_no) join tasks t using (task_no)
        order by 1, 2, 3""",
    "pending cuts": "select n.id, c.key from pending_cuts c join sessions n using (session_no) order by 1, 2",
    "pending revivals": "select n.id, p.key from pending_revivals p join sessions n using (session_no) order by 1, 2",
    "pending promotions": "select n.id, p.key from pending_promotions p join sessions n using (session_no) order by 1, 2",
    "counts": """
        select n.id, c.status, sum(c.delta)::bigint
        from session_counts c join sessions n using (session_no)
        group by 1, 2 having sum(c.delta) <> 0
        order by 1, 2""",
    "blobs": "select count(*), sum(size)::bigint from blobs",
    "staged objects": "select name from staged_objects order by 1",
}


async def contents(database: Database) -> Mapping[str, Rows]:
    """Table by table, comparable between databases."""
    return {name: [tuple(row) for row in await database.fetch(query)] for name, query in _TABLES.items()}
