"""Results at hand: which are kept, for how long, and which never were any."""

from ripieno.agent.data.cache import DataCache, ProducedCache
from ripieno.domain.data import StoredObject
from ripieno.domain.outcomes import Completions
from ripieno.wire.outcomes import completions_to_wire
from ripieno.wire.protos.v1 import agent_pb2

SESSION = 5


def columns(results: dict[int, dict[str, bytes]], session_no: int = SESSION) -> agent_pb2.AgentMessage:
    """A message with completions, by claim."""
    completions = Completions()
    for claim, data in results.items():
        several = Completions([claim], [session_no], [claim], [1], ["w"], [len(data)], list(data), list(data.values()))
        completions.add(several)
    message = agent_pb2.AgentMessage()
    completions_to_wire(completions, message.completions)
    return message


def outcome(message: agent_pb2.AgentMessage, claim: int, key: str, data: bytes | None) -> None:
    """Add an outcome of the general form; no bytes stand for a large result."""
    added = message.outcomes.add(ticket=agent_pb2.Ticket(task_no=claim, session_no=SESSION, claim=claim))
    result = added.completed.results.add(key=key)
    if data is None:
        result.data.object.name = "n"
    else:
        result.data.inline = data


def test_settled_results_of_both_forms_are_at_hand() -> None:
    cache = ProducedCache(1 << 20)
    message = columns({1: {"a": b"1"}, 2: {}, 3: {"b": b"2", "c": b""}})
    outcome(message, 4, "d", b"3")
    outcome(message, 5, "e", None)
    cache.settled([message, columns({6: {"a": b"other"}}, SESSION + 1)])
    found = [cache.get((SESSION, key)) for key in "abcdef"]
    assert found == [b"1", b"2", b"", b"3", None, None]
    assert cache.get((SESSION + 1, "a")) == b"other"


def test_refused_results_are_not_and_their_neighbours_are() -> None:
    cache = ProducedCache(1 << 20)
    message = columns({1: {"a": b"1"}, 2: {"b": b"2", "c": b"3"}, 3: {"d": b"4"}})
    outcome(message, 4, "e", b"5")
    outcome(message, 5, "f", b"6")
    cache.refused({2, 4})
    cache.settled([message])
    assert [cache.get((SESSION, key)) for key in "abcdef"] == [b"1", None, None, b"4", None, b"6"]


def test_a_refusal_concerns_what_is_settled_with_it_and_nothing_later() -> None:
    """The attempt that wins has another claim; the one that lost is not told of again."""
    cache = ProducedCache(1 << 20)
    cache.refused({1})
    cache.settled([columns({1: {"a": b"lost"}})])
    assert cache.get((SESSION, "a")) is None
    cache.settled([columns({2: {"a": b"won"}})])
    assert cache.get((SESSION, "a")) == b"won"


def test_messages_that_nobody_asked_about_are_bounded() -> None:
    cache = ProducedCache(10_000)
    messages = [columns({claim: {f"k{claim}": bytes(3_000)}}) for claim in range(5)]
    for message in messages:
        cache.settled([message])
    found = [cache.get((SESSION, f"k{claim}")) is not None for claim in range(5)]
    assert found == [False, False, True, True, True]


def test_the_least_recently_used_goes_first() -> None:
    cache = DataCache(3 * 256 + 30)
    for key in "abc":
        cache.put((SESSION, key), b"x" * 10)
    assert cache.get((SESSION, "a")) == b"x" * 10
    cache.put((SESSION, "d"), StoredObject("n", 1, b""))
    assert [cache.get((SESSION, key)) is not None for key in "abcd"] == [True, False, True, True]
