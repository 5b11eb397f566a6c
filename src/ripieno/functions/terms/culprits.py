"""``find_culprit``: which part of a value cannot be pickled, by the way to it, and what to do about its kind."""

from __future__ import annotations

import functools
import io
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

#: Most parts that are tried: the search is for people, and a value may have millions of parts.
_TRIED = 2_000

#: The kinds of object that people try to send, by words in the names of their classes, and the way out.
_WAYS_OUT: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("lock", "condition", "semaphore", "event", "barrier"),
        "it belongs to one process, and tasks share no memory that it could guard; make it inside the function",
    ),
    (("generator", "iterator"), "give list(...) of it"),
    (("coroutine",), "await it first, or submit the async function itself: submit(f, x), not submit(f(x))"),
    (
        ("connection", "cursor", "socket", "engine", "client", "channel", "popen", "session"),
        "it belongs to this process; open it inside the function, once for each worker with functools.cache",
    ),
    (("memoryview",), "give bytes(...) of it"),
    (("module",), "import it inside the function"),
)
_OPEN_FILE = "an open file belongs to this process; pass its path, and open it inside the function"
_ANY = "make it inside the function, or pass what it is made of"


@dataclass(frozen=True, slots=True)
class Culprit:
    """A part of a value that cannot be pickled, though its own parts can.

    Attributes:
        part: The way to it in words, such as "['a'][0] of the variable 'lock' that it closes over"; "it" for the value.
        kind: The name of its class.
        way_out: What to do.
    """

    part: str
    kind: str
    way_out: str


def find_culprit(value: object, can_be_pickled: Callable[[object], bool]) -> Culprit:
    """Follow what cannot be pickled down to the part that is at fault.

    Args:
        can_be_pickled: Tries a part.
    """
    whole, variable, steps = value, "", ""
    left = _TRIED
    seen: set[int] = set()

    def part_at_fault() -> tuple[str, object] | None:
        nonlocal left
        seen.add(id(value))
        for step, part in _parts_of(value):
            left -= 1
            if left < 0:
                return None
            if id(part) not in seen and not can_be_pickled(part):
                return step, part
        return None

    while (found := part_at_fault()) is not None:
        step, part = found
        if step.startswith("the "):
            variable, steps = step.format("it" if value is whole else _name(value)), ""
        else:
            steps += step
        value = part
    return _culprit(variable, steps, value)


def _culprit(variable: str, steps: str, value: object) -> Culprit:
    part = f"{steps} of {variable}" if steps and variable else variable or (f"its part {steps}" if steps else "it")
    return Culprit(part, _kind(value), _way_out(value))


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value that are pickled with it, each with the step that leads to it."""
    if isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args[{place}]", each) for place, each in enumerate(value.args))
        yield from ((f".keywords[{name!r}]", each) for name, each in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"[{_short(key)}]", each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{place}]", each) for place, each in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from (("{...}", each) for each in value)
    elif not isinstance(value, type | types.ModuleType) and not _pickles_itself(value):
        names = [name for kind in type(value).__mro__ for name in _slots_of(kind)]
        yield from ((f".{name}", getattr(value, name)) for name in names if _has(value, name))
        yield from ((f".{name}", each) for name, each in _attributes_of(value).items())


def _pickles_itself(value: object) -> bool:
    """Whether a class says by itself what is pickled of its objects, which need not be their attributes."""
    reduce: object = type(value).__reduce__
    return reduce is not object.__reduce__


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if _has(cell, "cell_contents"):
            yield f"the variable {name!r} that {{}} closes over", cell.cell_contents
    for name in dict.fromkeys(_global_names(function.__code__)):
        if name in function.__globals__:
            yield f"the global variable {name!r} that {{}} uses", function.__globals__[name]
    for each in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield "the default of a parameter of {}", each


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _global_names(each)


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _attributes_of(value: object) -> dict[str, Any]:
    found = getattr(value, "__dict__", None)
    return found if isinstance(found, dict) else {}


def _has(value: object, name: str) -> bool:
    try:
        getattr(value, name)
    except Exception:  # noqa: BLE001 - an attribute may be code of anybody
        return False
    return True


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _name(value: object) -> str:
    return getattr(value, "__qualname__", None) or _kind(value)


def _short(key: object) -> str:
    shown = repr(key)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _way_out(value: object) -> str:
    if isinstance(value, io.IOBase):
        return _OPEN_FILE
    name = type(value).__qualname__.lower()
    for words, way_out in _WAYS_OUT:
        if any(word in name for word in words):
            return way_out
    return _ANY
