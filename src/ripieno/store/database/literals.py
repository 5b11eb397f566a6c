"""Values as PostgreSQL literals, where they cannot be sent as parameters of their own type."""

from collections.abc import Sequence


def array_literal(texts: Sequence[str]) -> str:
    """Return texts as the literal of a PostgreSQL array.

    Arrays of different lengths cannot be sent as one two-dimensional array, so each
    is sent as text and cast in the statement.
    """
    if not texts:
        return "{}"
    if len(texts) == 1 and '"' not in texts[0] and "\\" not in texts[0]:
        return f'{{"{texts[0]}"}}'
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
