"""HTML of clusters and futures, for notebooks: small, without scripts, styles and pictures from elsewhere."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from html import escape

from ripieno.functions.showing.counting import Count

#: Colors that can be read on light and on dark pages.
_DONE, _FAILED, _REST = "#2f9e6e", "#d6493f", "#8883"
#: Texts of tasks and errors may be long; more of them is one call away.
_SHOWN_CHARACTERS = 300


def card(title: str, fields: Mapping[str, str], *inside: str) -> str:
    """Return a small box with a title and fields, all of them text, and further HTML under them."""
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.65;padding:0 1em 0 0;border:0">{_text(name)}</td>'
        f'<td style="text-align:left;padding:0;border:0"><code>{_text(value)}</code></td></tr>'
        for name, value in fields.items()
    )
    table = f'<table style="border:0;margin:.3em 0 0;background:none">{rows}</table>' if rows else ""
    return (
        '<div style="display:inline-block;border:1px solid #8886;border-radius:4px;padding:.5em .9em;margin:.2em 0">'
        f"<strong>{_text(title)}</strong>{table}{''.join(inside)}</div>"
    )


def bar(count: Count, what: str = "", beside: Sequence[str] = (), under: Sequence[str] = ()) -> str:
    """Return a bar of how far things have come, with what they are and texts beside it, and lines under it."""
    well = _percent(count.done - count.failed, count.total)
    failed = _percent(count.failed, count.total)
    words = [f"{count.done:,} of {count.total:,} {what}".rstrip(), *beside]
    if count.failed:
        words.append(f"{count.failed:,} failed")
    lines = "".join(f'<div style="opacity:.65">{_text(line)}</div>' for line in under)
    return (
        '<div style="margin:.3em 0"><div style="display:inline-block;vertical-align:middle;width:16em;height:.7em;'
        f'border-radius:3px;overflow:hidden;background:{_REST};margin-right:.8em;white-space:nowrap;font-size:1em">'
        f"{_piece(well, _DONE)}{_piece(failed, _FAILED)}</div>"
        f'<span style="font-variant-numeric:tabular-nums">{_text(" · ".join(words))}</span>{lines}</div>'
    )


def error_in_words(error: BaseException | None) -> str:
    """Return the class and the text of an exception, in one line, whatever the exception is like."""
    return "" if error is None else traceback.format_exception_only(error)[0].strip()


def _piece(percent: float, color: str) -> str:
    return f'<div style="display:inline-block;vertical-align:top;height:100%;width:{percent:.2f}%;background:{color}"></div>'


def _percent(part: int, total: int) -> float:
    return 100 * part / total if total else 0


def _text(text: str) -> str:
    return escape(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ...")
