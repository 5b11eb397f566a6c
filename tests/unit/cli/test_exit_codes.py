"""The table of exit codes: whole, the same as in the documents, and with a place for each error."""

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ripieno.cli.terms.exit_codes import MEANINGS, CommandError, ExitCode, code_of_call, code_of_error
from ripieno.client import TaskFailedError
from ripieno.domain import errors
from ripieno.wire.codes import code_of

DOCUMENT = Path(__file__).parents[3] / "docs/cli.md"


def test_the_document_has_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    written = {int(code): (name, meaning.replace(r"\|", "|")) for code, name, meaning in rows}
    assert written == {int(code): (code.name, MEANINGS[code]) for code in ExitCode}


def _errors(root: type[errors.RipienoError]) -> Iterator[type[errors.RipienoError]]:
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _errors(kind)


@pytest.mark.parametrize("kind", list(_errors(errors.RipienoError)), ids=lambda kind: kind.__name__)
def test_an_error_ends_a_command_alike_whether_the_sdk_or_a_bare_call_meets_it(kind: type[errors.RipienoError]) -> None:
    error = kind.__new__(kind)
    assert code_of_error(error) == code_of_call(code_of(error))


def test_each_code_of_a_call_has_its_end() -> None:
    assert {code_of_call(code) for code in grpc.StatusCode if code is not grpc.StatusCode.OK} == {
        ExitCode.NOT_FOUND, ExitCode.NO_ANSWER, ExitCode.REFUSED, ExitCode.DENIED, ExitCode.FAILED,
    }  # fmt: skip
    assert code_of_error(TaskFailedError("k", "t", [])) is ExitCode.FAILED
    assert CommandError("not done").exit_code == 1
