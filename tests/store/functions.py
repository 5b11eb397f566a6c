"""The statements inside our PL/pgSQL functions, each as it can be prepared by itself.

A function is planned statement by statement, its variables being parameters of each. So that is
what this makes of it: the body cut at its semicolons, control flow left out, variables replaced
by ``$n::type``. It understands as much of the language as our functions use; what it
misunderstands does not come out as SQL, and fails where it is prepared.
"""

import re
from collections.abc import Iterator, Mapping

import asyncpg

_FUNCTIONS = """
    select p.proname as name, p.prosrc as body, p.proargnames as names,
           array(select format_type(type, null) from unnest(coalesce(p.proallargtypes, p.proargtypes)) as type) as types
    from pg_proc p join pg_language l on l.oid = p.prolang
    where l.lanname = 'plpgsql' and p.pronamespace = current_schema()::regnamespace
    order by 1
"""

_COMMENT = re.compile(r"--.*$", re.MULTILINE)
_BODY = re.compile(r"\A\s*(?:declare(?P<declared>.*?))?\bbegin\b(?P<statements>.*)\bend\s*\Z", re.DOTALL)
_DECLARED = re.compile(r"\A\s*(?P<name>\w+)\s+(?:constant\s+)?(?P<type>[^:]+?)\s*(?::=.*)?\Z", re.DOTALL)

#: Control flow at the beginning of a statement, and what is evaluated there.
_FLOW = re.compile(
    r"\A\s*(?:else\b|end\s+(?:if|loop)\b|(?:if|while)\s+(?P<condition>.*?)\s+(?:then|loop)\b|for\s+(?P<counter>\w+)\s+in\s.*?\sloop\b)",
    re.DOTALL,
)
_EVALUATED = re.compile(r"\A(?:perform|return|\w+\s*:=)\s*(?P<expression>.*)\Z", re.DOTALL)
#: A result of a function, of which only a query is planned.
_RESULT = re.compile(r"\A(?:return\s+next\b|return\Z|return\s+query\b)\s*", re.DOTALL)
_INTO = re.compile(r"(?<!insert )\binto\s+\w+(?:\s*,\s*\w+)*")

#: Names of columns and of what is selected, which are not variables whatever they are called.
_NOT_VARIABLES = (
    r"insert\s+into\s+\w+\s*\([^()]*\)|\bas\s+(?!materialized\b)\w+\s*\([^()]*\)|\b(?:as|set)\s+\w+"
    r"|\b\w+\s*\.\s*\w+|'[^']*'|::\s*\w+"
)


async def statements(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Every statement of every function of the schema, in order: the function's name and the statement."""
    found = []
    for row in await connection.fetch(_FUNCTIONS):
        arguments = dict(zip(row["names"], row["types"], strict=True))
        found += [(row["name"], statement) for statement in statements_of(row["body"], arguments)]
    return found


def statements_of(body: str, arguments: Mapping[str, str]) -> list[str]:
    """The statements of one function, given the types of its arguments."""
    parts = _BODY.match(_COMMENT.sub("", body))
    assert parts, body
    variables = dict(arguments)
    for declaration in filter(str.strip, (parts["declared"] or "").split(";")):
        declared = _DECLARED.match(declaration)
        assert declared, declaration
        variables[declared["name"]] = declared["type"]
    bare = list(_without_flow(parts["statements"], variables))
    return [_prepared(statement, variables) for statement in bare]


def _without_flow(text: str, variables: dict[str, str]) -> Iterator[str]:
    for statement in text.split(";"):
        rest = statement
        while flow := _FLOW.match(rest):
            if flow["condition"]:
                yield f"select {flow['condition']}"
            if flow["counter"]:
                variables[flow["counter"]] = "integer"
            rest = rest[flow.end() :]
        rest = _RESULT.sub("", rest.strip())
        if evaluated := _EVALUATED.match(rest):
            yield f"select {evaluated['expression']}"
        elif rest and not rest.startswith("raise "):
            yield _INTO.sub("", rest)


def _prepared(statement: str, variables: Mapping[str, str]) -> str:
    numbers: dict[str, int] = {}

    def parameter(found: re.Match[str]) -> str:
        name = found["variable"]
        if name not in variables:
            return found[0]
        return f"(${numbers.setdefault(name, len(numbers) + 1)}::{variables[name]})"

    return re.sub(rf"{_NOT_VARIABLES}|(?P<variable>\b[a-z_]\w*\b)", parameter, statement)
