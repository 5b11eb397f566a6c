"""Each code block of the documents runs, and prints what the document says; or it says why it does not run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs.blocks import Block, blocks_of, fits
from docs.page import ROOT, Page
from ripieno.cli.root import cli
from ripieno.functions.calling.private import PrivateCluster

DOCUMENTS = [
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name != "adr"),
    *(ROOT / name for name in ("README.md", "examples/functions/README.md", "examples/node/README.md")),
]
PAGES = {name: blocks for path in DOCUMENTS if (blocks := list(blocks_of(path, name := str(path.relative_to(ROOT)))))}
NOT_RUN = [block for blocks in PAGES.values() for block in blocks if block.not_run]

#: How many blocks are only checked. Each one more weakens this test: say why in the document, and count it here.
NOT_RUN_COUNT = 4


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """One cluster for all pages that start none."""
    private = PrivateCluster(2)
    yield private.address
    private.close()


@pytest.mark.timeout(220)  # a page is many programs, one after the other
@pytest.mark.parametrize("name", PAGES)
def test_blocks_do_what_the_page_says(name: str, address: str, tmp_path: Path) -> None:
    with Page(tmp_path, address) as page:
        for block in PAGES[name]:
            if not block.not_run:
                page.run(block)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.where)
def test_blocks_that_do_not_run_could(block: Block) -> None:
    if block.language == "python":
        compile(block.code, block.where, "exec")
        return
    for line in block.lines():
        check_command(shlex.split(line, comments=True))


def check_command(words: list[str]) -> None:
    """The command exists, and its flags; of programs that are not ours nothing is known."""
    if words[0] == "make":
        assert re.search(rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if words[0] != "ripieno":
        return
    command: click.Command | None = cli
    rest = words[1:]
    with click.Context(cli) as context:
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            command, rest = command.get_command(context, rest[0]), rest[1:]
    assert command is not None, words
    flags = {flag for parameter in command.params for flag in parameter.opts} | {"--help", "--version"}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= flags, words


def test_blocks_that_do_not_run_are_few_and_say_why() -> None:
    assert [block.where for block in NOT_RUN if len(block.not_run.split()) < 3] == []
    assert len(NOT_RUN) == NOT_RUN_COUNT, [block.where for block in NOT_RUN]


@pytest.mark.parametrize(
    ("printed", "expected", "fit"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nc\n", "a\nb\n", False),
        ("a 17 ms\nb\n", "a ...\nb\n", True),
        ("a\nx\ny\nb", "a\n...\nb\n", True),
        ("a", "a...", True),
        ("a+", "aa", False),
    ],
)
def test_dots_stand_for_anything(printed: str, expected: str, fit: bool) -> None:
    assert fits(printed, expected) is fit
