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
        ("json:handle", "module 'json' has no 'handle'"),
        ("json:__name__", "is str, which cannot be called"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        load_handler(name)


def test_an_error_inside_the_module_comes_as_it_is(modules: Path) -> None:
    (modules / "broken_handlers.py").write_text("import no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_handler("broken_handlers:handle")


def test_coroutine_functions_are_told_from_functions() -> None:
    async def coroutine(task: object) -> None: ...

    class Callable:
        async def __call__(self, task: object) -> None: ...

    assert is_async(coroutine)
    assert is_async(Callable())
    assert is_async(functools.partial(coroutine))
    assert not is_async(print)
    assert not is_async(lambda task: None)
