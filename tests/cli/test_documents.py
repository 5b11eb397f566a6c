"""What the documents say can be done: their commands, flags, paths and links exist. (``tests/docs`` runs their code.)"""

import importlib.util
import re
import shlex
from dataclasses import asdict
from pathlib import Path

import click
import pytest

from ripieno.cli.root import cli
from ripieno.config import Limits

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(path for path in (ROOT / "examples").rglob("*.md") if "node_modules" not in path.parts),
]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]+)")
_FILE = re.compile(r"`(?P<path>[\w./-]+\.(?:py|sql|md|toml))`")
_PATH = re.compile(r"`(?P<path>(?:benchmarks|docs|examples|src|tests|tools)/[\w./-]*)`")
#: Code or a link that is longer than half a line.
_LONG_SPAN = re.compile(r"`[^`]{50,}`|\[[^\]]*\]\([^)]*\)\S*$")
_FOLDERS = ("benchmarks", "docs", "examples", "src", "tests", "tools")
#: Directories and names that a document speaks of and that somebody makes by running something.
_MADE = ("benchmarks/.venv-peers", "benchmarks/results")


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks(document: Path, language: str = "") -> list[str]:
    return [found["text"] for found in _BLOCK.finditer(document.read_text()) if found["language"] == language]


def commands(program: str) -> list[list[str]]:
    """The words of each line of a block that runs ``program``, in any of the documents."""
    lines = "".join(text for document in DOCUMENTS for text in blocks(document)).splitlines()
    words = [
        shlex.split(line.removeprefix(".venv/bin/"), comments=True)
        for line in lines
        if line.startswith((program, f".venv/bin/{program}"))
    ]
    found = [rest for first, *rest in filter(None, words) if first == program and rest]
    assert found
    return found


@pytest.mark.parametrize("words", commands("ripieno"), ids=" ".join)
def test_each_command_and_flag_exists(words: list[str]) -> None:
    with click.Context(cli) as context:
        command, rest = cli.get_command(context, words[0]), words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            command, rest = command.get_command(context, rest[0]), rest[1:]
    assert command is not None
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= flags


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_each_target_exists(words: list[str]) -> None:
    assert re.search(rf"^{re.escape(words[0])}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("words", [words for words in commands("python") if words[0] == "-m"], ids=" ".join)
def test_each_module_exists(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    assert importlib.util.find_spec(words[1]) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = [document.parent / found["path"] for found in _LINK.finditer(text)]
    paths = [ROOT / found["path"] for found in _PATH.finditer(text) if not found["path"].startswith(_MADE)]
    assert [str(path) for path in (*links, *paths) if not path.exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_files_that_are_named_exist(document: Path) -> None:
    """A file may be named by the end of its path: `control/agents/dispatcher.py`."""
    present = [f"/{path.relative_to(ROOT)}" for folder in _FOLDERS for path in (ROOT / folder).rglob("*.*")]
    present += [f"/{path.name}" for path in ROOT.iterdir()]
    wanted = {found["path"] for found in _FILE.finditer(document.read_text())}
    assert [name for name in sorted(wanted) if not any(path.endswith(f"/{name}") for path in present)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_prose_ends_by_column_100(document: Path) -> None:
    """What cannot be broken is let be: tables, blocks, and a word (a path, a link) that is too long by itself."""
    prose = _BLOCK.sub("", document.read_text()).splitlines()
    breakable = [line for line in prose if not line.startswith(("|", "#", "    ")) and " " in line[:100].strip()]
    assert [line for line in breakable if len(line) > 100 and not _LONG_SPAN.search(line)] == []


def test_the_table_of_limits_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d,]+)(?: (KiB|MiB|GiB|TiB))? \|", (ROOT / "docs/limits.md").read_text(), re.MULTILINE
    )
    units = {unit: 2**exponent for unit, exponent in (("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40))}
    assert {name: int(number.replace(",", "")) * units[unit] for name, number, unit in rows} == asdict(Limits())
