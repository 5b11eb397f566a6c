import functools
import sys
from pathlib import Path

import pytest

from ripieno.worker import HandlerError, load_handler
from ripieno.worker.running.handlers import is_async


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_handler_is_found_by_its_name(modules: Path) -> None:
    (modules / "found_handlers.py").write_text("class Pricing:\n    @staticmethod\n    def handle(task): return b'1'\n")
    assert load_handler("found_handlers:Pricing.handle") is sys.modules["found_handlers"].Pricing.handle


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("handle", "write MODULE:FUNCTION"),
        (":handle", "write MODULE:FUNCTION"),
        ("no_such_module:handle", "no module 'no_such_module'"),
        ("json.no_such_module:handle", r"no module 'json\.no_such_module'"),
        ("json:handle", "module 'json' has no 'handle'; it has dump, "),
        ("json:laods", r"module 'json' has no 'laods'; did you mean json:loads\?"),
        ("mine.py:handle", r"'mine\.py' is not the full name of a module .*; write mine:handle, and run"),
        (".my_tasks:handle", r"'\.my_tasks' is not the full name of a module .*write my_tasks:handle, "),
        ("pack/my-tasks.py:handle", r"write pack\.my_tasks:handle, and run this where it can be imported from"),
        ("json:__name__", "is str, which cannot be called"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        load_handler(name)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", r"there is no module 'no_such_module' \(.*broken_21.py, line 1\); install it where"),
        ("x = 1\n1 / 0", r"cannot be imported: ZeroDivisionError: division by zero \(.*broken_11.py, line 2\)"),
        ("def handle(:", r"cannot be imported: SyntaxError: .*\(broken_12.py, line 1\)"),
    ],
)
def test_a_module_that_cannot_be_imported(modules: Path, code: str, said: str) -> None:
    name = f"broken_{len(code)}"  # a module is imported once
    (modules / f"{name}.py").write_text(f"{code}\n")
    with pytest.raises(HandlerError, match=said) as raised:
        load_handler(f"{name}:handle")
    assert raised.value.__cause__ is not None


def test_coroutine_functions_are_told_from_functions() -> None:
    async def coroutine(task: object) -> None: ...

    class Callable:
        async def __call__(self, task: object) -> None: ...

    assert is_async(coroutine)
    assert is_async(Callable())
    assert is_async(functools.partial(coroutine))
    assert not is_async(print)
    assert not is_async(lambda task: None)
