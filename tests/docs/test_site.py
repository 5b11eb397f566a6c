"""The site that `make docs` builds: it has every page, command and public name, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import click

from ripieno.cli.root import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_site_is_built_whole(tmp_path: Path) -> None:
    """One test, since the site takes seconds to build and tests may run in several processes."""
    site = build(tmp_path / "site")
    each_document_is_a_page_that_the_contents_lead_to(site)
    pages_load_nothing_from_another_host(site)
    each_command_and_flag_is_in_the_reference(site)
    for package in ("ripieno", "ripieno.client", "ripieno.testing", "ripieno.worker"):
        each_public_name_is_in_the_reference(site, package)


def build(target: Path) -> Path:
    """The site, built as strictly as `make docs` builds it: whatever Sphinx warns of, a broken link too, fails."""
    strictly = ("--fresh-env", "--fail-on-warning", "--keep-going", "--quiet")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *strictly, "-c", "tools/site", "docs", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return target


class Loaded(HTMLParser):
    """What a page has a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and ((tag, name) == ("link", "href") or (tag != "a" and name in ("src", "srcset", "data"))):
                self.addresses.append(value)


def each_document_is_a_page_that_the_contents_lead_to(site: Path) -> None:
    documents = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert {name for name in documents if not (site / f"{name}.html").exists()} == set()
    index = (site / "index.html").read_text()
    assert {name for name in documents if f'href="{name}.html"' not in index} == {"index"}


def pages_load_nothing_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses
        assert [address for address in loaded.addresses if re.match(r"(\w+:)?//", address)] == [], page
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^)'\"]+", styles) == []


def each_command_and_flag_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text()
    for name, command in commands(cli, click.Context(cli, info_name="ripieno")):
        assert f">{name}<a " in page
        flags = {
            flag for each in command.params for flag in each.opts if isinstance(each, click.Option) and not each.hidden
        }
        assert {flag for flag in flags if flag not in page} == set(), name


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield inner.command_path, command
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def each_public_name_is_in_the_reference(site: Path, package: str) -> None:
    pages = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    names = import_module(package).__all__
    assert [name for name in names if not re.search(rf'id="ripieno[\w.]*\.{name}"', pages)] == []


def test_drawings_are_those_of_the_tables_of_transitions() -> None:
    checked = subprocess.run(
        [sys.executable, "tools/draw_lives.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
