"""Pickles of functions, arguments and values, in which references stand for values in the cluster.

A reference may stand anywhere in what is pickled: in a list, in a dictionary, in an object, in
what a function closes over. The pickle holds its key, not its value; ``Dumped`` tells which keys it
names, and ``loads`` is told how to get their values.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ripieno.functions.terms.culprits import find_culprit
from ripieno.functions.terms.errors import NotPicklableError
from ripieno.functions.terms.references import Kind, Reference

#: What a pickle holds of a reference: key, place in the list, kind.
Named = tuple[str, int | None, str]

_PROTOCOL = 5
#: Values of these types hold no reference and need no code: the plain pickler writes them, many times as fast.
_PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex})


@dataclass(frozen=True, slots=True)
class Dumped:
    """A pickle, and the keys of the results that it names: those that a task depends on, and data that was stored."""

    data: bytes
    dependencies: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()


def dumps(value: object, what: str, session_id: str | None) -> Dumped:
    """Pickle a value; ``what`` names it in errors, such as "argument 2 of f".

    Args:
        session_id: The session that references must belong to; None refuses all references.

    Raises:
        NotPicklableError: something in it cannot be pickled, or a reference belongs to another session.
    """
    if type(value) in _PLAIN:
        return Dumped(pickle.dumps(value, _PROTOCOL))
    file = io.BytesIO()
    dumper = _pickler_class()(file, session_id)
    try:
        dumper.dump(value)
    except _ForeignReferenceError as error:
        raise NotPicklableError(what, str(error)) from None
    except Exception as error:
        raise NotPicklableError(what, _why(value, error, session_id) if what else str(error)) from error
    return Dumped(file.getvalue(), tuple(dumper.dependencies), tuple(dumper.stored))


def _why(value: object, error: Exception, session_id: str | None) -> str:
    """Return which part of a value cannot be pickled, and what to do about it."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it is nested too deeply; give it in flatter parts, such as a list instead of a chain"
    said = f"{type(error).__name__}: {error}"

    def can_be_pickled(part: object) -> bool:
        try:
            _pickler_class()(io.BytesIO(), session_id).dump(part)
        except Exception:  # noqa: BLE001 - why is told once the search has ended
            return False
        return True

    try:
        culprit = find_culprit(value, can_be_pickled)
    except Exception:  # noqa: BLE001 - attributes of any object are code of anybody; the error itself is told all the same
        return said
    if not str(error).lower().startswith(("cannot pickle", "can't pickle")):
        return said if culprit.part == "it" else f"{culprit.part}: {said}"
    return f"{culprit.part} is of type {culprit.kind}: {culprit.way_out}"


def loads(data: bytes, value_of: Callable[[Named], Any] | None = None) -> Any:
    """Return the value of a pickle; ``value_of`` is asked for what stands in the place of each reference.

    Runs what the pickle says: only for pickles of people who may run programs here.
    """
    if value_of is None:
        return pickle.loads(data)  # noqa: S301 - see above
    unpickler = _Unpickler(io.BytesIO(data))
    unpickler.value_of = value_of
    return unpickler.load()


class _ForeignReferenceError(Exception):
    """A reference that has no meaning where it is used."""


class _Unpickler(pickle.Unpickler):
    value_of: Callable[[Named], Any]

    def persistent_load(self, pid: Named) -> Any:
        return self.value_of(pid)


_class: type[Any] | None = None


def _pickler_class() -> type[Any]:
    """Return the pickler, made when first needed: cloudpickle takes 15 ms to import, and is an extra."""
    global _class
    if _class is None:
        try:
            import cloudpickle
        except ImportError:
            raise NotPicklableError(
                "the function", "the package cloudpickle is missing: pip install 'ripieno[functions]'"
            ) from None

        class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
            def __init__(self, file: io.BytesIO, session_id: str | None) -> None:
                super().__init__(file, _PROTOCOL)
                self.session_id = session_id
                self.dependencies: dict[str, None] = {}
                self.stored: dict[str, None] = {}

            def persistent_id(self, obj: object) -> Named | None:
                if not isinstance(obj, Reference):
                    return None
                if self.session_id is None:
                    raise _ForeignReferenceError(f"{obj!r} is no value; take its result first, and pass that")
                if obj.session_id != self.session_id:
                    raise _ForeignReferenceError(
                        f"{obj!r} belongs to another session; take its result first, and pass that"
                    )
                if why := obj.why_unusable():
                    raise _ForeignReferenceError(why)
                (self.dependencies if obj.kind is Kind.DEPENDENCY else self.stored)[obj.key] = None
                return obj.key, obj.index, obj.kind.value

        _class = Pickler
    return _class
