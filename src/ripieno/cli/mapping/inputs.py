"""Inputs of a map: from arguments, or the lines of a file or of standard input, read as they come."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

#: What is read at once, and the most bytes of inputs in a batch.
_READ_BYTES = 256 * 1024
#: The most inputs in a batch: as many as one call submits.
BATCH = 1_000
#: The longest line.
LONGEST_LINE_BYTES = 16 * 1024 * 1024
#: A file of more bytes is not read beforehand to count its lines.
_COUNTED_BYTES = 1024 * 1024 * 1024


class Input(NamedTuple):
    """One input: its number among the inputs, from 1, and its text. Bytes that are not UTF-8 are surrogates in it."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """Inputs that are arguments of the command."""

    texts: Sequence[str]

    #: Whether the inputs can be read a second time.
    rereadable = True

    @property
    def name(self) -> str:
        """What the inputs are, for the name of the job."""
        return "arguments\0" + "\0".join(self.texts)

    def count(self) -> int | None:
        """Return how many inputs there are."""
        return len(self.texts)

    def batches(self) -> Iterator[list[Input]]:
        """Yield the inputs, some at a time."""
        batch: list[Input] = []
        size = 0
        for number, text in enumerate(self.texts, 1):
            batch.append(Input(number, text))
            size += len(text)
            if len(batch) == BATCH or size > _READ_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


@dataclass(frozen=True, slots=True)
class Lines:
    """Inputs that are lines of a file; ``path`` None is standard input. Empty lines are none."""

    path: Path | None

    @property
    def rereadable(self) -> bool:
        """Whether the inputs can be read a second time."""
        return self.path is not None and self.path.is_file()

    @property
    def name(self) -> str:
        """What the inputs are, for the name of the job: a file's place, whatever is in it."""
        return "stdin" if self.path is None else f"file\0{self.path.absolute()}"

    def count(self) -> int | None:
        """Return about how many inputs there are; None where nobody can know."""
        if self.path is None or not self.rereadable or self.path.stat().st_size > _COUNTED_BYTES:
            return None
        with self.path.open("rb", buffering=0) as file:
            return sum(piece.count(b"\n") for piece in iter(lambda: file.read(4 * _READ_BYTES), b""))

    def batches(self) -> Iterator[list[Input]]:
        """Yield the inputs, those together that come together.

        Raises:
            OSError: the file cannot be read.
            click.UsageError: a line is too long, or has a NUL.
        """
        if self.path is None:
            yield from _batches(_read(0), "standard input")
            return
        with self.path.open("rb", buffering=0) as file:
            yield from _batches(_read(file.fileno()), str(self.path))


def _read(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, _READ_BYTES):
        yield data


def _batches(pieces: Iterable[bytes], where: str) -> Iterator[list[Input]]:
    number = 0
    for place, lines in _lines(pieces, where):
        batch: list[Input] = []
        for offset, line in enumerate(lines):
            if not line:
                continue
            if b"\0" in line:
                raise click.UsageError(
                    f"line {place + offset:,} of {where} has a NUL character, which no argument may have"
                )
            number += 1
            batch.append(Input(number, os.fsdecode(line)))
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _lines(pieces: Iterable[bytes], where: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield whole lines, as many as are there, and the number of the first of them."""
    place, rest = 1, b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            raise click.UsageError(
                f"line {place + len(whole):,} of {where} is longer than {LONGEST_LINE_BYTES:,} bytes: put what is so"
                " large into files, and give their names"
            )
        if whole:
            yield place, [line.removesuffix(b"\r") for line in whole]
            place += len(whole)
    if rest:
        yield place, [rest.removesuffix(b"\r")]
