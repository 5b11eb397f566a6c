"""``Job``: what a map does to each input, and the names of its tasks."""

import hashlib
import json
import os
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import click

from ripieno.cli.mapping.inputs import Input
from ripieno.cli.mapping.templates import Template

#: ``module:function``, which no sensible command line looks like.
FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_DIGEST_BYTES = 8


class Dressing:
    """What is written around the bytes of one result.

    Args:
        before: What comes before them.
        after: What comes after them.
        line: What comes before each line of them; the last line gets its end then.
    """

    __slots__ = ("_after", "_before", "_between", "_line")

    def __init__(self, before: bytes = b"", after: bytes = b"", line: bytes = b"") -> None:
        self._before = before
        self._after = after
        self._line = line
        self._between = True

    def whole(self, data: bytes) -> bytes:
        """Return what is written for a result that is there whole."""
        return b"".join((self._before, self.piece(data), self.end()))

    def begin(self) -> bytes:
        """Return what is written before the first piece."""
        return self._before

    def piece(self, data: bytes) -> bytes:
        """Return what is written for the next piece."""
        if not self._line or not data:
            return data
        dressed = data.replace(b"\n", b"\n" + self._line)
        if self._between:
            dressed = self._line + dressed
        self._between = data.endswith(b"\n")
        return dressed.removesuffix(self._line) if self._between else dressed

    def end(self) -> bytes:
        """Return what is written after the last piece."""
        return self._after if self._between or not self._line else b"\n" + self._after


class Job(ABC):
    """What is done to each input.

    Attributes:
        tag: Whether the input is written beside each result.
    """

    tag: bool

    @property
    @abstractmethod
    def identity(self) -> str:
        """All that says what the job does to an input."""

    @abstractmethod
    def payload(self, given: Input) -> bytes:
        """Return the payload of the task for an input.

        Raises:
            click.UsageError: the input is none.
        """

    @abstractmethod
    def dressing(self, given: Input) -> Dressing:
        """Return what is written around a result."""

    @abstractmethod
    def failure_line(self, given: Input, reason: str) -> bytes:
        """Return what is written where a result would be if it had not failed."""

    def name(self, inputs: str) -> str:
        """Return the name of the job on inputs that are called so: the same for the same job and inputs."""
        return f"map-{_digest(self.identity, inputs)}"

    def task_id(self, session_id: str, given: Input) -> str:
        """Return the id of the task for an input: it says the place, and what is done (MAP-1)."""
        return f"{session_id}.{given.number}.{_digest(self.identity, given.text)}"


@dataclass(frozen=True)
class CommandJob(Job):
    """Runs a command line; the result is its standard output.

    Attributes:
        command: The command line, with placeholders.
        cwd: The directory in which it runs; None is that of the worker.
        variables: Variables that it gets in addition to those of the worker.
        tag: Whether each line of output begins with the input and a tab.
    """

    command: str
    cwd: str | None
    variables: Mapping[str, str] = field(default_factory=dict)
    tag: bool = False

    @cached_property
    def identity(self) -> str:
        """Command, directory and variables as one text."""
        return json.dumps(["command", self.command, self.cwd, sorted(self.variables.items())])

    def payload(self, given: Input) -> bytes:
        """Return a call of ``run_command``."""
        from ripieno.worker.mapped.command import run_command

        line = os.fsencode(self._template.line(given.text, given.number))
        return pickle.dumps((run_command, (line, self.cwd, dict(self.variables)), {}))

    def dressing(self, given: Input) -> Dressing:
        """Return the tag of each line, if that is wanted."""
        return Dressing(line=os.fsencode(given.text) + b"\t") if self.tag else Dressing()

    def failure_line(self, given: Input, reason: str) -> bytes:
        """Return nothing."""
        return b""

    @cached_property
    def _template(self) -> Template:
        return Template(self.command)


@dataclass(frozen=True)
class FunctionJob(Job):
    """Calls a function with a JSON value; the result is its value as JSON.

    Attributes:
        function: ``module:function``.
        spread: Whether inputs are objects whose members are keyword arguments.
        is_json: Whether inputs are JSON; else they are texts.
        tag: Whether each line is an object with the input beside the result, or beside the reason of a failure.
    """

    function: str
    spread: bool
    is_json: bool
    tag: bool = False

    @cached_property
    def identity(self) -> str:
        """The function and the meaning of inputs as one text."""
        return json.dumps(["function", self.function, self.spread, self.is_json])

    def payload(self, given: Input) -> bytes:
        """Return a call of ``call_function``."""
        from ripieno.worker.mapped.function import call_function

        value = self._value(given)
        if self.spread and not isinstance(value, dict):
            raise click.UsageError(
                f"input {given.number:,} is no JSON object, so its members cannot be keyword arguments: {given.text[:100]}"
            )
        text = given.text if self.is_json else json.dumps(value)
        return pickle.dumps((call_function, (self.function, text), {"spread": self.spread}))

    def dressing(self, given: Input) -> Dressing:
        """Return the end of the line, and the input if that is wanted."""
        return Dressing(self._head(given, "result"), b"}\n") if self.tag else Dressing(after=b"\n")

    def failure_line(self, given: Input, reason: str) -> bytes:
        """Return the reason on a line with the input if that is wanted, else nothing."""
        return self._head(given, "error") + json.dumps(reason).encode() + b"}\n" if self.tag else b""

    def _head(self, given: Input, name: str) -> bytes:
        return f'{{"number": {given.number}, "input": {json.dumps(self._value(given))}, "{name}": '.encode()

    def _value(self, given: Input) -> Any:
        if not self.is_json:
            return given.text
        try:
            return json.loads(given.text)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(
                f"input {given.number:,} is no JSON ({error}): {given.text[:100]}. Each line is one JSON value; texts have"
                " quotes"
            ) from error


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\0\0".join(texts).encode(errors="surrogateescape"), digest_size=_DIGEST_BYTES).hexdigest()
