"""The flags of limits: names, values, and what is wrong with them."""

import click
import pytest
from click.testing import CliRunner

from ripieno.cli.terms.limits import limit_flag, limits_from
from ripieno.config import LIMITS_VARIABLE, Limits


def given(*arguments: str, variable: str | None = None) -> tuple[int, str]:
    @click.command()
    @limit_flag
    def command(limits: tuple[tuple[str, int], ...]) -> None:
        click.echo(repr(limits_from(limits)))

    result = CliRunner().invoke(command, arguments, env={LIMITS_VARIABLE: variable})
    return result.exit_code, " ".join(result.output.split())


def test_a_limit_is_given_by_flag_or_variable_and_the_flag_wins() -> None:
    assert given() == (0, repr(Limits()))
    assert given("--limit", "tasks-per-call=5") == (0, repr(Limits(tasks_per_call=5)))
    assert given(variable="tasks_per_call=5 ids_per_reply=6") == (0, repr(Limits(tasks_per_call=5, ids_per_reply=6)))
    assert given("--limit=tasks_per_call=7", variable="tasks_per_call=5") == (0, repr(Limits(tasks_per_call=7)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("tasks_per_call", "write NAME=VALUE"),
        ("tasks_per_cell=5", "'tasks_per_cell' is no limit; there are tasks_per_call,"),
        ("tasks_per_call=none", "'none' of tasks_per_call is not a whole number"),
        ("tasks_per_call=0", "at least 1"),
    ],
)
def test_a_wrong_limit_is_told(value: str, said: str) -> None:
    code, output = given("--limit", value)
    assert code == 2
    assert said in output
