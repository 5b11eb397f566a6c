"""Waiting for many futures: ``gather``, ``as_completed`` and ``wait``."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, TypeVar, cast

from ripieno.functions.calling.future import Future, require_waitable
from ripieno.functions.calling.futures import Futures
from ripieno.functions.calling.running_texts import RunningTexts
from ripieno.functions.calling.stored import Stored
from ripieno.functions.showing.watching import watching

__all__ = ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "Waited", "as_completed", "gather", "wait"]

T = TypeVar("T")


class Waited(NamedTuple):
    """What ``wait`` returns: the futures that are done, and those that are not."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def gather(futures: Any, *, errors: Literal["raise", "return"] = "raise", progress: bool = True) -> Any:
    """Wait for futures and return their values in the same shape.

    A wait of more than a second shows a progress bar, on standard error if that is a terminal, or in a notebook.

    Args:
        futures: A future, or a list, tuple, set, dictionary or other iterable of futures, nested as you like. What is
            no future stays what it is.
        errors: "raise" raises the exception of the first future that fails, at once; "return" puts exceptions in
            the place of values.
        progress: False for no progress bar, and so does RIPIENO_PROGRESS=0.

    Raises:
        Exception: what a function raised.
    """
    if errors not in ("raise", "return"):
        raise ValueError(f'errors is "raise" or "return", not {errors!r}')
    found: list[Future[Any]] = []
    shape = _listed(futures, found)
    require_waitable(found)
    with _watching(found, progress):
        done, _ = concurrent.futures.wait(found, return_when=FIRST_EXCEPTION if errors == "raise" else ALL_COMPLETED)
    if errors == "raise":
        for future in found:
            if future in done:
                _raise_failure(future)
    return _filled(shape, errors)


def as_completed(
    futures: Iterable[Future[T]], timeout: float | None = None, *, progress: bool = True
) -> Iterator[Future[T]]:
    """Yield futures as they complete, each once.

    What takes more than a second shows a progress bar, as ``gather`` does. What is printed meanwhile appears above it.

    Args:
        progress: False for no progress bar.

    Raises:
        TimeoutError: not all were there within ``timeout`` seconds.
    """
    known = list(futures)
    if timeout is None:
        require_waitable(known)
    with _watching(known, progress):
        yield from cast("Iterator[Future[T]]", concurrent.futures.as_completed(known, timeout))


def wait(futures: Iterable[Future[Any]], timeout: float | None = None, return_when: str = ALL_COMPLETED) -> Waited:
    """Wait for futures, for ``timeout`` seconds at most.

    Args:
        return_when: ``ALL_COMPLETED``, ``FIRST_COMPLETED`` or ``FIRST_EXCEPTION`` of ``concurrent.futures``.
    """
    known = list(futures)
    if timeout is None:
        require_waitable(known)
    done, not_done = concurrent.futures.wait(known, timeout, return_when)
    return Waited(cast("set[Future[Any]]", done), cast("set[Future[Any]]", not_done))


def _watching(futures: Sequence[Future[Any]], progress: bool) -> AbstractContextManager[None]:
    if not futures or not progress:
        return nullcontext()
    return watching(futures, futures[0].name, lambda: RunningTexts(futures[0].session))


def _raise_failure(future: Future[Any]) -> None:
    if future.cancelled() or future.exception() is not None:
        future.result()


def _listed(shape: Any, found: list[Future[Any]]) -> Any:
    """Collect the futures in nested containers; one-shot iterables become lists."""
    if isinstance(shape, Future):
        found.append(shape)
        return shape
    if isinstance(shape, dict):
        return {key: _listed(value, found) for key, value in shape.items()}
    if isinstance(shape, list | tuple | set | frozenset):
        return _like(shape, [_listed(each, found) for each in shape])
    if isinstance(shape, Iterator):
        return [_listed(each, found) for each in shape]
    return shape


def _filled(shape: Any, errors: str) -> Any:
    if isinstance(shape, Future):
        return _value(shape, errors)
    if isinstance(shape, Stored):
        return shape.result()
    if isinstance(shape, dict):
        return {key: _filled(value, errors) for key, value in shape.items()}
    if isinstance(shape, list | tuple | set | frozenset):
        return _like(shape, [_filled(each, errors) for each in shape])
    return shape


def _like(shape: Any, items: list[Any]) -> Any:
    if isinstance(shape, tuple) and hasattr(shape, "_fields"):
        return type(shape)(*items)  # a named tuple
    if isinstance(shape, Futures):
        return items
    return type(shape)(items)


def _value(future: Future[Any], errors: str) -> Any:
    if errors == "raise":
        return future.result()
    try:
        return future.result()
    except (Exception, concurrent.futures.CancelledError) as error:  # noqa: BLE001 - asked for by the caller
        return error
