"""Settings of the site that `make docs` builds from docs/ with Sphinx.

Nothing that the pages load comes from another host, and whatever Sphinx warns of fails the build.
"""

import re
import sys
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
sys.path.insert(0, str(ROOT))

from ripieno.cli.root import cli  # noqa: E402 - Sphinx executes this file, as no part of a package
from tools.site.commands import reference  # noqa: E402
from tools.site.flowcharts import FlowchartError, draw  # noqa: E402

project = "Ripieno"
release = version_of("ripieno")
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_title = "Ripieno"
html_static_path = [str(SITE / "static")]
html_css_files = ["ripieno.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

# Blocks that name no language are commands or pictures of characters.
highlight_language = "none"

# The pages of docs/ are read on their own as well, with headings and links as GitHub understands them.
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_display_short_literal_types = True
maximum_signature_line_length = 100

#: Pages that stand below another one in the table of contents: their lists are tables, for readers of the files.
BELOW = {"adr/README": "adr/0*"}

#: Pages with the reference of a package: what its ``__all__`` names.
REFERENCES = {
    "reference/functions": "ripieno",
    "reference/client": "ripieno.client",
    "reference/worker": "ripieno.worker",
}


class Mermaid(SphinxDirective):
    """A Mermaid flowchart, drawn while the site is built."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the drawing; what cannot be drawn is an error of the page."""
        try:
            drawing = draw("\n".join(self.content))
        except FlowchartError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", drawing, format="html")]


def add_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append the table of contents of pages that have others below them."""
    if name in BELOW:
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n/{BELOW[name]}\n```\n"


def add_commands(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append the reference of all commands to its page."""
    if name == "reference/commands":
        source[0] += reference(cli, "ripieno")


def complete_references(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append the public names of a package that its page does not put into an order of its own."""
    package = REFERENCES.get(name)
    if package is None:
        return
    # Examples in docstrings are in Python.
    source[0] = source[0].replace("```{eval-rst}\n", "```{eval-rst}\n.. highlight:: python\n\n", 1)
    module = import_module(package)
    further = [each for each in module.__all__ if not re.search(rf"(:: |`){each}\b", source[0])]
    if further:
        directives = "".join(_directive(each, getattr(module, each)) for each in sorted(further))
        source[0] += f"\n## More\n\n```{{eval-rst}}\n.. currentmodule:: {package}\n\n{directives}```\n"


def _directive(name: str, value: object) -> str:
    if not isinstance(value, type):
        return f".. {'autofunction' if callable(value) else 'autodata'}:: {name}\n"
    return f".. {'autoexception' if issubclass(value, BaseException) else 'autoclass'}:: {name}\n   :members:\n"


def lead_out_of_the_site(app: Sphinx, name: str, source: list[str]) -> None:
    """Show links to directories and documents outside docs/ as what they name; other files become downloads."""
    page = Path(app.srcdir) / name

    def shown(found: re.Match[str]) -> str:
        target = (page.parent / found["path"]).resolve()
        outside = (target.is_dir() or target.suffix == ".md") and not target.is_relative_to(app.srcdir)
        return f"`{target.relative_to(ROOT)}`" if outside else found[0]

    source[0] = re.sub(r"\[[^\]]*\]\((?P<path>\.\./[^)#]+)\)", shown, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is our own."""
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", add_contents)
    app.connect("source-read", add_commands)
    app.connect("source-read", complete_references)
    app.connect("source-read", lead_out_of_the_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
