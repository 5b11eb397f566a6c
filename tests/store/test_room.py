"""Room on the disk that comes back by itself."""

from store.world import World, done, task

ROUNDS, TASKS = 6, 400


async def test_final_results_take_their_own_room_and_little_more(world: World) -> None:
    for turn in range(ROUNDS):
        await world.submit(*(task(f"{turn}-{n}", f"key-{turn}-{n}") for n in range(TASKS)))
        claimed = await world.claim(TASKS)
        await world.commit(*(done(each, {f"key-{task_id}": b"1"}) for task_id, each in claimed.items()))
        await world.rows("vacuum results")
    [(taken, needed, rows)] = await world.rows(
        # A row's pointer on its page has 4 bytes.
        "select pg_relation_size('results'), sum(pg_column_size(r.*) + 4), count(*) from results r where status = 10"
    )
    assert rows == ROUNDS * TASKS
    # The first versions of the last round left a sixth of the room, which the next round would get.
    assert taken < 1.6 * float(needed)  # type: ignore[arg-type, operator]
