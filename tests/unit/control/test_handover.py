"""Results kept between the two calls of a client."""

from ripieno.control.results.handover import Handover


def test_a_result_is_handed_over_once() -> None:
    """The second time it is read from the store."""
    handover = Handover()
    handover.put(1, "key", b"data")
    handover.put(1, "key", b"data")
    assert handover.take(2, "key") is None
    assert handover.take(1, "key") == b"data"
    assert handover.take(1, "key") is None


def test_an_empty_result_is_a_result() -> None:
    """No bytes are not the same as nothing kept."""
    handover = Handover()
    handover.put(1, "key", b"")
    assert handover.take(1, "key") == b""


def test_the_oldest_go_first() -> None:
    """What is kept is bounded, however many never read what they waited for."""
    handover = Handover(largest_bytes=3_000)
    for number in range(10):
        handover.put(1, f"key-{number}", b"x" * 600)
    kept = [number for number in range(10) if handover.take(1, f"key-{number}") is not None]
    assert kept == [7, 8, 9]
    handover.put(1, "large", b"x" * 5_000)
    assert handover.take(1, "large") is None
