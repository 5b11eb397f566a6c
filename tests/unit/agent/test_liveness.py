"""When a silent peer is given up: the decision without a clock."""

from ripieno.agent.transport.keepalive import CONTROL_PLANE, LOOK_S, SDK_WORKER, Finding, Keepalive, Watch


def looks(watch: Watch, start: float, seconds: float) -> list[tuple[float, Finding]]:
    """What looks a second find that is not fine, and when."""
    found: list[tuple[float, Finding]] = []
    for number in range(1, int(seconds / LOOK_S) + 1):
        now = start + number * LOOK_S
        finding = watch.look(now)
        if finding is not Finding.FINE:
            found.append((now, finding))
        if finding is Finding.DEAD:
            break
    return found


def test_a_replica_that_says_nothing_is_given_up_within_ten_seconds() -> None:
    found = looks(Watch(CONTROL_PLANE, 0.0), 0.0, 60)
    assert [finding for _, finding in found] == [Finding.ASK, Finding.DEAD]
    assert found[-1][0] < 10


def test_a_worker_that_was_stopped_for_fifteen_seconds_is_not() -> None:
    found = looks(Watch(SDK_WORKER, 0.0), 0.0, SDK_WORKER.silence_s + 15)
    assert Finding.DEAD not in [finding for _, finding in found]
    assert Finding.ASK in [finding for _, finding in found]


def test_a_peer_that_answers_is_asked_now_and_then() -> None:
    watch, asked = Watch(Keepalive(3, 2), 0.0), []
    for second in range(1, 31):
        if watch.look(second) is Finding.ASK:
            asked.append(second)
            watch.heard_at = second + 0.5
    assert asked == [3, 7, 11, 15, 19, 23, 27]


def test_who_slept_asks_again_before_giving_up() -> None:
    watch = Watch(Keepalive(3, 2), 0.0)
    assert looks(watch, 0.0, 3) == [(3.0, Finding.ASK)]
    assert watch.slept(20.0)
    assert watch.look(20.0) is Finding.ASK
    assert watch.look(21.0) is Finding.FINE
    assert watch.look(22.0) is Finding.DEAD


def test_nobody_is_given_up_for_silence_alone() -> None:
    assert looks(Watch(None, 0.0), 0.0, 100) == []
