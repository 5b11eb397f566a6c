"""``Call``: a function and its arguments, ready to be submitted."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.texts import is_encodable
from ripieno.functions.terms.decorator import name_of, parts_of
from ripieno.functions.terms.envelope import Envelope
from ripieno.functions.terms.errors import NotPicklableError
from ripieno.functions.terms.options import RESERVED, CallOptions
from ripieno.functions.terms.pickling import Dumped, dumps
from ripieno.functions.terms.references import Reference


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a caller says about a task beside its function's arguments.

    Attributes:
        options: Its options.
        after: Futures that have to be there first, though their values are not used.
        unique_key: A name of the task in its session: a second one with that name is the first one.
    """

    options: CallOptions
    after: tuple[Reference, ...] = ()
    unique_key: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments as a payload.

    Attributes:
        name: The function's name, for people.
        payload: The envelope.
        dependencies: Keys of the results that have to be there first.
    """

    name: str
    payload: bytes
    dependencies: tuple[str, ...]

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        session_id: str,
        place: Callable[[bytes], bytes | str] = bytes,
    ) -> tuple[Call, Submitted]:
        """Return the call of a function, and what the caller says beside; options are taken out of ``kwargs``.

        Args:
            place: Given the function's pickle, returns it or the key of a result that holds it.

        Raises:
            TypeError: the function cannot be called, takes an argument that is called like an option, or an option is
                of the wrong kind.
            NotPicklableError: the function or an argument cannot be sent.
        """
        code = FunctionCode.of(function, session_id)
        said = taken(kwargs, code.function, code.options)
        return code.called(args, kwargs, said, session_id, place), said


@dataclass(frozen=True, slots=True)
class FunctionCode:
    """A pickled function.

    Attributes:
        function: The function itself.
        name: Its name, for people.
        options: The options that it was decorated with.
        pickled: Its pickle, with the keys that it names.
    """

    function: Callable[..., Any]
    name: str
    options: CallOptions
    pickled: Dumped

    @classmethod
    def of(cls, function: Callable[..., Any], session_id: str) -> FunctionCode:
        """Pickle a function.

        Raises:
            TypeError: it cannot be called.
            NotPicklableError: it cannot be sent.
        """
        bare, options = parts_of(function)
        if not callable(bare):
            raise TypeError(
                f"submit takes a function and its arguments, not {bare!r}; pass the function, not its value"
            )
        name = name_of(bare)
        return cls(bare, name, options, dumps(bare, f"the function {name}", session_id))

    def called(
        self,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        said: Submitted,
        session_id: str,
        place: Callable[[bytes], bytes | str] = bytes,
    ) -> Call:
        """Return the call with these arguments, all of which are the function's; ``place`` is as for ``Call.of``.

        Raises:
            NotPicklableError: an argument cannot be sent.
        """
        if all(type(each) in _SIMPLE for each in (*args, *kwargs.values())):
            arguments = Dumped(pickle.dumps((tuple(args), kwargs), 5))  # many times as fast, and the commonest case
        else:
            arguments = arguments_of(self.name, args, kwargs, session_id)
        return self.call(arguments, said, place(self.pickled.data))

    def call(self, arguments: Dumped, said: Submitted, function: bytes | str, *, each: bool = False) -> Call:
        """Return the call with these arguments; ``function`` is the pickle, or the key of a result that holds it."""
        retried = None
        if (retry := said.options.retry) is not None and retry.classes != (Exception,):
            retried = _pickled_classes(retry.classes)
        envelope = Envelope(self.name, function, arguments.data, each, retried=retried)
        keys = dict.fromkeys((*self.pickled.dependencies, *arguments.dependencies, *(one.key for one in said.after)))
        return Call(self.name, envelope.encode(), tuple(keys))


def taken(kwargs: dict[str, Any], function: Callable[..., Any], defaults: CallOptions) -> Submitted:
    """Take what a caller says beside the arguments out of ``kwargs``.

    Raises:
        TypeError: the function has a parameter of that name, so it is not clear what is meant; or a value is wrong.
    """
    if RESERVED.isdisjoint(kwargs):
        return Submitted(defaults)
    for name in sorted(RESERVED & kwargs.keys() & _parameters(function)):
        raise TypeError(
            f"{name} is an option of the task and a parameter of {name_of(function)}: bind the parameter with"
            f" functools.partial(function, {name}=...), or give the option with ripieno.task({name}=...)(function)"
        )
    after = kwargs.pop("after", ())
    unique_key = kwargs.pop("unique_key", None)
    if unique_key is not None and (not isinstance(unique_key, str) or not unique_key):
        raise TypeError(f"unique_key is a text that is not empty, not {unique_key!r}")
    if unique_key is not None and not is_encodable(unique_key):
        raise InvalidRequestError("unique_key", f"{unique_key!r} has a lone surrogate, which UTF-8 cannot hold")
    if not isinstance(after, Reference | Iterable):
        raise TypeError(f"after takes a future or several, not {after!r}")
    references = (after,) if isinstance(after, Reference) else tuple(after)
    for each in references:
        if not isinstance(each, Reference):
            raise TypeError(f"after takes futures, not {each!r}")
    options = CallOptions.taken_from(kwargs)
    return Submitted(options.over(defaults), references, unique_key)


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        named = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(each.name for each in named if each.kind is not inspect.Parameter.VAR_KEYWORD)


@functools.lru_cache(maxsize=32)
def _pickled_classes(classes: tuple[type[BaseException], ...]) -> bytes:
    return dumps(classes, "the classes of Retry.on", None).data


#: Values of these types hold no reference and no code.
_SIMPLE = frozenset({int, float, str, bytes, bool, type(None)})


def arguments_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], session_id: str) -> Dumped:
    """Pickle the arguments of a call together; where that fails, find out which of them cannot be.

    Args:
        name: What is called, such as "f", or "call 3 of f".

    Raises:
        NotPicklableError: one of them cannot be sent.
    """
    try:
        return dumps((tuple(args), dict(kwargs)), "", session_id)
    except NotPicklableError as error:
        for place, value in (*enumerate(args, 1), *kwargs.items()):
            dumps(value, f"argument {place} of {name}", session_id)
        raise NotPicklableError(f"the arguments of {name}", error.why) from error


def pairs(items: Sequence[tuple[Any, ...]], name: str, session_id: str, first: int = 0) -> Dumped:
    """Pickle the arguments of several calls of a function, as ``Envelope.each`` has them.

    Args:
        first: The place of the first of them among the calls of a ``map``, from 0.

    Raises:
        NotPicklableError: one of them cannot be sent.
    """
    try:
        return dumps([(args, {}) for args in items], "", session_id)
    except NotPicklableError as error:
        for place, args in enumerate(items, first + 1):
            arguments_of(f"call {place} of {name}", args, {}, session_id)
        raise NotPicklableError(f"the arguments of {name}", error.why) from error
