"""What cannot be sent is named, down to the part of it that is at fault, with a way out."""

import functools
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ripieno
from ripieno.functions.terms.calls import Call
from ripieno.functions.terms.pickling import dumps

LOCK = threading.Lock()


class Model:
    def __init__(self) -> None:
        self.cache = {"x": [1, LOCK]}

    def fit(self, number: int) -> int:
        return number


class Slotted:
    __slots__ = ("inside", "unset")

    def __init__(self) -> None:
        self.inside = Model()


class Stubborn:
    def __reduce__(self) -> Any:
        raise TypeError("send its name instead")


class Strange:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")

    def __getstate__(self) -> Any:
        raise TypeError("cannot pickle 'Strange' object")


def plain(value: object) -> object:
    return value


def uses_a_global() -> bool:
    return _local_lock.locked()


_local_lock = LOCK
# As in a program's own file: pickled with the code, by value.
uses_a_global.__module__ = "__main__"
Model.fit.__module__ = "__main__"


def closing(over: object) -> Callable[[], object]:
    def helper() -> object:
        return over

    def function() -> object:
        return helper()

    return function


def generated() -> Iterator[int]:
    yield 1


def nested(depth: int) -> list[Any]:
    chain: list[Any] = []
    for _ in range(depth):
        chain = [chain]
    return chain


@pytest.mark.parametrize(
    ("function", "args", "words"),
    [
        (plain, (LOCK,), "argument 1 of .*plain cannot be sent to the cluster: it is of type _thread.lock: .*inside the"),
        (plain, (1, {"a": [1, {"b": LOCK}]}), r"argument 2 of .*: its part \['a'\]\[1\]\['b'\] is of type _thread.lock"),
        (plain, (Model(),), r"argument 1 .*: its part \.cache\['x'\]\[1\] is of type _thread.lock"),
        (plain, (Slotted(),), r"its part \.inside\.cache\['x'\]\[1\] is of type _thread.lock"),
        (plain, (generated(),), r"it is of type generator: give list\(\.\.\.\) of it"),
        (plain, ([Stubborn()],), r"its part \[0\]: TypeError: send its name instead"),
        (plain, (Stubborn(),), r"to the cluster: TypeError: send its name instead"),
        (plain, (Strange(),), "Strange"),
        (plain, (nested(100_000),), "nested too deeply"),
        (functools.partial(plain, LOCK), (), r"the function .*plain .*: its part \.args\[0\] is of type"),
        (Model().fit, (1,), r"the function Model.fit .*: its part \.__self__\.cache\['x'\]\[1\]"),
        (closing(LOCK), (), "the variable 'over' that closing.<locals>.helper closes over is of type _thread.lock"),
        (closing([LOCK]), (), r"\[0\] of the variable 'over' that closing.<locals>.helper closes over"),
        (lambda: LOCK, (), "the global variable 'LOCK' that it uses is of type _thread.lock"),
        (uses_a_global, (), "the global variable '_local_lock' that it uses"),
        (lambda lock=LOCK: lock, (), "the default of a parameter of it is of type"),
    ],
)  # fmt: skip
def test_the_part_at_fault_is_named(function: Callable[..., object], args: tuple[object, ...], words: str) -> None:
    with pytest.raises(ripieno.NotPicklableError, match=words) as raised:
        Call.of(function, args, {}, "session")
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.what, again.why) == (str(raised.value), raised.value.what, raised.value.why)


def test_an_open_file_is_to_be_opened_there(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(TypeError, match="pass its path, and open it inside"):
        Call.of(plain, (), {"value": file}, "session")


def test_a_future_is_not_put() -> None:
    reference = ripieno.Deferred("key", "session", "f")
    with pytest.raises(TypeError, match="is no value; take its result first"):
        dumps([reference], "the value", None)


def test_calls_of_a_map_are_counted(cluster: ripieno.Cluster) -> None:
    with pytest.raises(TypeError, match="argument 1 of call 2 of "):
        cluster.map(plain, [1, LOCK])
    with pytest.raises(TypeError, match="argument 1 of call 3 of "):
        cluster.map(plain, [1, 2, LOCK], chunk=2)


def test_a_value_that_cannot_be_sent_back(cluster: ripieno.Cluster) -> None:
    with pytest.raises(ripieno.RipienoError, match=r"the value that .* returned .* generator: give list\(\.\.\.\)"):
        cluster.submit(lambda: (number for number in [1]), max_retries=3).result(30)
