"""Who waits for which things: every step costs what it is about.

Adding, delivering and removing look at the things they name and at nobody else's, however
many are waited for and however many wait.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")
Thing = TypeVar("Thing")


class Waiter(Generic[Key, Found]):
    """One who waits for things, each of which is delivered once.

    Args:
        deliver: Gets what was found, several at a time; must not wait and must not raise.

    Attributes:
        asked: What was asked for and is not delivered yet.
    """

    __slots__ = ("asked", "deliver")

    def __init__(self, deliver: Callable[[Sequence[Found]], None]) -> None:
        self.asked: set[Key] = set()
        self.deliver = deliver


class Waiting(Generic[Key, Found]):
    """Things that are waited for, each with those who wait for it."""

    def __init__(self) -> None:
        # As a rule one waits for a thing: a dict for each would cost more than all the rest.
        self._waiters: dict[Key, Waiter[Key, Found] | dict[Waiter[Key, Found], None]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._waiters

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._waiters)

    def among(self, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that somebody waits for, in their order."""
        waiters = self._waiters
        return [key for key in keys if key in waiters]

    def add(self, waiter: Waiter[Key, Found], keys: Iterable[Key]) -> list[Key]:
        """Wait for these; return those that this waiter did not wait for already."""
        asked, waiters = waiter.asked, self._waiters
        fresh = [key for key in dict.fromkeys(keys) if key not in asked]
        asked.update(fresh)
        for key in fresh:
            others = waiters.setdefault(key, waiter)
            if others is waiter:
                continue
            if isinstance(others, dict):
                others[waiter] = None
            else:
                waiters[key] = {others: None, waiter: None}
        return fresh

    def of(self, key: Key) -> Iterable[Waiter[Key, Found]]:
        """Those who wait for it."""
        waiters = self._waiters.get(key, ())
        return (waiters,) if isinstance(waiters, Waiter) else waiters

    def deliver(self, found: Iterable[tuple[Key, Found]]) -> None:
        """Hand out what was found; nobody waits for it any more."""
        self.deliver_of(dict(found), lambda _key, each: each)

    def deliver_of(self, things: Mapping[Key, Thing], found: Callable[[Key, Thing], Found]) -> None:
        """``deliver`` of many things, of which only some may be waited for: ``found`` is called for these."""
        per_waiter: dict[Waiter[Key, Found], list[Found]] = {}
        pop = self._waiters.pop
        for key, thing in things.items():
            waiters = pop(key, None)
            if waiters is None:
                continue
            each = found(key, thing)
            for waiter in waiters if isinstance(waiters, dict) else (waiters,):
                waiter.asked.discard(key)
                if waiter in per_waiter:
                    per_waiter[waiter].append(each)
                else:
                    per_waiter[waiter] = [each]
        for waiter, all_of_it in per_waiter.items():
            waiter.deliver(all_of_it)

    def remove(self, waiter: Waiter[Key, Found]) -> None:
        """This one waits for nothing any more."""
        for key in waiter.asked:
            waiters = self._waiters[key]
            if isinstance(waiters, dict):
                del waiters[waiter]
            if waiters is waiter or not waiters:
                del self._waiters[key]
        waiter.asked.clear()
