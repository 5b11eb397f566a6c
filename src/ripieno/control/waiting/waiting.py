"""A registry of waiters and the things each waits for.

Adding, delivering and removing take time in proportion to the things they name, however
many others are waited for and however many waiters there are.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")
Thing = TypeVar("Thing")


class Waiter(Generic[Key, Found]):
    """A waiter for a set of things, each of which is delivered once.

    Args:
        deliver: Called with the things found, several at a time; must not block and must not raise.

    Attributes:
        asked: Keys of the things that were asked for and are not delivered yet.
    """

    __slots__ = ("asked", "deliver")

    def __init__(self, deliver: Callable[[Sequence[Found]], None]) -> None:
        self.asked: set[Key] = set()
        self.deliver = deliver


class Waiting(Generic[Key, Found]):
    """The things that are waited for by key, each with its waiters."""

    def __init__(self) -> None:
        # As a rule a thing has one waiter, which is stored directly: a dict for each would cost more than all the rest.
        self._waiters: dict[Key, Waiter[Key, Found] | dict[Waiter[Key, Found], None]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._waiters

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._waiters)

    def among(self, keys: Iterable[Key]) -> list[Key]:
        """Return those of the keys that somebody waits for, in their order."""
        waiters = self._waiters
        return [key for key in keys if key in waiters]

    def add(self, waiter: Waiter[Key, Found], keys: Iterable[Key]) -> list[Key]:
        """Add keys to those that a waiter waits for; return the ones it did not wait for already."""
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
        """Return the waiters for a key."""
        waiters = self._waiters.get(key, ())
        return (waiters,) if isinstance(waiters, Waiter) else waiters

    def deliver(self, found: Iterable[tuple[Key, Found]]) -> None:
        """Deliver things to their waiters, who then wait for them no longer."""
        self.deliver_of(dict(found), lambda _key, each: each)

    def deliver_of(self, things: Mapping[Key, Thing], found: Callable[[Key, Thing], Found]) -> None:
        """Deliver those of the things that are waited for.

        Args:
            found: Makes from a key and its thing what is delivered; called for things that are waited for alone.
        """
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
        """Remove a waiter: nothing more is delivered to it."""
        for key in waiter.asked:
            waiters = self._waiters[key]
            if isinstance(waiters, dict):
                del waiters[waiter]
            if waiters is waiter or not waiters:
                del self._waiters[key]
        waiter.asked.clear()
