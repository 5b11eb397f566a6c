"""``Template``: a command line with placeholders, as GNU parallel has them."""

import posixpath
import re
import shlex

#: Longest first, since ``{/.}`` would be found in no other.
_PLACEHOLDER = re.compile(r"\{(?:|\.|/|//|/\.|#)\}")


class Template:
    """A command line in which placeholders stand for an input; without any, the input is added to its end.

    ==========  =================================================
    ``{}``      the input
    ``{.}``     the input without its extension
    ``{/}``     its last part, behind the last slash
    ``{//}``    what is before that: its directory
    ``{/.}``    its last part without the extension
    ``{#}``     its number, from 1
    ==========  =================================================

    What is put in is quoted for the shell, as one word: do not put quotes around a placeholder.
    """

    def __init__(self, command: str) -> None:
        self._command = command if _PLACEHOLDER.search(command) else f"{command} {{}}"

    def line(self, text: str, number: int) -> str:
        """Return the command line for the input with this number."""
        return _PLACEHOLDER.sub(lambda found: _filled(found[0], text, number), self._command)


def _filled(placeholder: str, text: str, number: int) -> str:
    if placeholder == "{#}":
        return str(number)
    if placeholder == "{//}":
        text = posixpath.dirname(text) or "."
    elif placeholder.startswith("{/"):
        text = posixpath.basename(text)
    if placeholder.endswith(".}"):
        text = posixpath.splitext(text)[0]
    return shlex.quote(text)
