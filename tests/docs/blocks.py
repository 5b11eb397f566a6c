"""The code blocks of a document, and what its comments say about running them.

A block in ``python`` runs in one interpreter for the whole page, one in ``sh`` in a shell in the page's own
directory. A ``text`` block right behind either is what it prints, where ``...`` stands for anything. A python block
whose first line is a comment with a file's name (``# hello.py``) is that file. Comments in front of a block::

    <!-- not run: REASON -->       it is only checked: python compiles, commands and flags exist
    <!-- exit code 1 -->           how the commands end, if not with 0
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```\n?", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*$")
_EXIT_CODE = re.compile(r"<!-- exit code (?P<code>\d+) -->\s*$")
_FILE = re.compile(r"# (?P<file>[\w.]+\.\w+)\n")

LANGUAGES = ("python", "sh")


@dataclass
class Block:
    """One block of code.

    Attributes:
        where: The document and the line, for messages.
        printed: What it prints; None where the document does not say.
        not_run: Why it is only checked; empty if it runs.
    """

    where: str
    language: str
    code: str
    printed: str | None = None
    not_run: str = ""
    exit_code: int = 0

    @property
    def file(self) -> str:
        """The file that the block is; empty if it is none."""
        found = _FILE.match(self.code) if self.language == "python" else None
        return found["file"] if found else ""

    def lines(self) -> list[str]:
        """The commands of a shell block, without continuation and comments."""
        return [line for line in self.code.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


def blocks_of(document: Path, name: str) -> Iterator[Block]:
    """The blocks of a document in languages that run, in order."""
    text = document.read_text()
    last: tuple[Block, int] | None = None
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        if found["language"] == "text" and last is not None and not text[last[1] : found.start()].strip():
            last[0].printed = found["code"]
        last = None
        if found["language"] not in LANGUAGES:
            continue
        block = Block(f"{name}:{before.count(chr(10)) + 1}", found["language"], found["code"])
        if reason := _NOT_RUN.search(before):
            block.not_run = reason["reason"]
        if code := _EXIT_CODE.search(before):
            block.exit_code = int(code["code"])
        last = (block, found.end())
        yield block


def fits(printed: str, expected: str) -> bool:
    """Whether what was printed is what a document says, with ``...`` for anything."""
    pattern = ".*?".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
    return re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL) is not None
