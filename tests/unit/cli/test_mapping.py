"""The parts of `ripieno map` that need no cluster."""

import hashlib
from pathlib import Path

import click
import pytest

from ripieno.cli.mapping import inputs
from ripieno.cli.mapping.inputs import Arguments, Input, Lines
from ripieno.cli.mapping.jobs import FUNCTION, CommandJob, Dressing, FunctionJob
from ripieno.cli.mapping.runs import Wanted
from ripieno.cli.mapping.sinks import FileSink, Point
from ripieno.cli.mapping.starting import Start, positioned
from ripieno.cli.mapping.templates import Template
from ripieno.cli.mapping.window import HELD_BYTES, Entry, Window
from ripieno.client import TaskOptions


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("f", "f 'a b/c d.tar.gz'"),
        ("f {}", "f 'a b/c d.tar.gz'"),
        ("f {.} {#}", "f 'a b/c d.tar' 7"),
        ("f {/} {//}", "f 'c d.tar.gz' 'a b'"),
        ("f {/.}", "f 'c d.tar'"),
        ("f {x} {} ${#v}", "f {x} 'a b/c d.tar.gz' ${#v}"),
    ],
)
def test_placeholders(command: str, line: str) -> None:
    assert Template(command).line("a b/c d.tar.gz", 7) == line


def test_an_input_without_slash_and_dot() -> None:
    assert Template("{//} {/.} {.}").line("a", 1) == ". a a"
    assert Template("{}").line("it's {#} $x", 1) == "'it'\"'\"'s {#} $x'"


def test_lines_are_read_in_bounded_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_READ_BYTES", 7)
    monkeypatch.setattr(inputs, "BATCH", 2)
    path = tmp_path / "lines"
    path.write_bytes(b"one\n\ntwo\r\n\xff\na long line of many pieces\nlast")
    batches = list(Lines(path).batches())
    assert max(map(len, batches)) <= 2
    assert [each for batch in batches for each in batch] == [
        Input(1, "one"), Input(2, "two"), Input(3, "\udcff"), Input(4, "a long line of many pieces"), Input(5, "last"),
    ]  # fmt: skip
    assert [len(batch) for batch in Arguments("abcde").batches()] == [2, 2, 1]


def test_lines_that_are_no_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\0c\n")
    with pytest.raises(click.UsageError, match=r"line 2 of .*lines has a NUL"):
        list(Lines(path).batches())
    monkeypatch.setattr(inputs, "LONGEST_LINE_BYTES", 10)
    path.write_bytes(b"a\n" + b"b" * 20)
    with pytest.raises(click.UsageError, match=r"line 2 of .*lines is longer than 10 bytes"):
        list(Lines(path).batches())


def test_what_is_a_function() -> None:
    assert FUNCTION.fullmatch("package.module:Class.method")
    for command in ("echo a:b", "module", "a:b:c", "./a:b", "C:\\x", "a:1"):
        assert not FUNCTION.fullmatch(command)


def test_a_task_is_named_after_place_and_work() -> None:
    job = CommandJob("echo {}", "/", {"A": "b"})
    name = job.task_id("s", Input(1, "x"))
    assert name == CommandJob("echo {}", "/", {"A": "b"}).task_id("s", Input(1, "x"))
    others = [
        job.task_id("s", Input(2, "x")),
        job.task_id("s", Input(1, "y")),
        CommandJob("echo {}", "/etc", {"A": "b"}).task_id("s", Input(1, "x")),
        CommandJob("echo {}", "/").task_id("s", Input(1, "x")),
        FunctionJob("m:f", spread=False, is_json=True).task_id("s", Input(1, "x")),
        FunctionJob("m:f", spread=False, is_json=False).task_id("s", Input(1, "x")),
    ]
    assert len({name, *others}) == 7


@pytest.mark.parametrize("size", [1, 3, 100])
def test_tags_stand_before_each_line_however_it_comes(size: int) -> None:
    data = b"one\n\ntwo\nend"
    dressing = Dressing(line=b"t\t")
    pieces = [dressing.piece(data[start : start + size]) for start in range(0, len(data), size)]
    assert dressing.begin() + b"".join(pieces) + dressing.end() == b"t\tone\nt\t\nt\ttwo\nt\tend\n"
    assert Dressing(line=b"t\t").whole(b"") == b""
    assert Dressing(line=b"t\t").whole(b"a\n") == b"t\ta\n"
    assert Dressing(b"<", b">").whole(b"a\nb") == b"<a\nb>"


def test_a_file_is_continued_from_its_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripieno.cli.mapping.sinks._POINT_EVERY_S", 0)
    path = tmp_path / "out"
    sink = FileSink(path)
    assert sink.point("s") is None
    sink.begin(None)
    sink.write(b"1\n2\n")
    sink.mark("s", 2, "d")
    sink.write(b"3\n4")
    with pytest.raises(OSError, match="another `ripieno map` writes it"):
        FileSink(path).begin(None)
    sink.close()

    again = FileSink(path)
    assert again.point("another") is None
    point = again.point("s")
    assert point == Point("s", 2, "d", 4)
    again.begin(point)
    again.write(b"x\n")
    assert not path.exists()
    again.finish()
    assert path.read_bytes() == b"1\n2\nx\n"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_what_is_written_is_gone_on_with_only_if_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ripieno.cli.mapping.sinks._POINT_EVERY_S", 0)
    wanted = Wanted(TaskOptions(), None, retry_failed=True, keep_going=True)

    def left(*texts: str, tag: bool = False, session_id: str = "s") -> list[str]:
        job = CommandJob("echo {}", "/", tag=tag)
        start = Start("", job, Arguments(texts), "s", fresh=False, wanted=wanted, output=tmp_path / "out")
        batches, point, digest = positioned(start, session_id, sink, is_known=True)
        rest = [each.text for batch in batches for each in batch]
        assert (point is None) == (len(rest) == len(texts))
        if point is not None:
            assert point.digest == digest.hexdigest()
        return rest

    sink = FileSink(tmp_path / "out")
    sink.begin(None)
    sink.write(b"ab")
    digest = hashlib.sha256()
    for number, text in enumerate("ab", 1):
        digest.update(CommandJob("echo {}", "/").task_id("s", Input(number, text)).encode() + b"\n")
    sink.mark("s", 2, digest.hexdigest())
    assert left("a", "b", "c", "d") == ["c", "d"]
    assert left("a", "b") == []
    assert left("a", "x", "c") == ["a", "x", "c"]
    assert left("a") == ["a"]
    assert left("a", "b", "c", tag=True) == ["a", "b", "c"]
    assert left("a", "b", "c", session_id="t") == ["a", "b", "c"]
    sink.close()


@pytest.mark.parametrize("note", ["", "{}", '{"session_id": "s", "inputs": 2, "digest": "d", "size": 400}'])
def test_a_point_that_cannot_be_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / "out.partial").write_bytes(b"12")
    (tmp_path / "out.partial.json").write_text(note)
    sink = FileSink(tmp_path / "out")
    assert sink.point("s") is None
    sink.begin(None)
    assert (tmp_path / "out.partial").read_bytes() == b""
    sink.close()


def test_results_beyond_the_room_are_dropped() -> None:
    window, first, second = Window(), Entry(Input(1, ""), "1"), Entry(Input(2, ""), "2")
    window.hold(first, bytes(HELD_BYTES))
    window.hold(second, b"x")
    assert second.data is None
    assert len(window.release(first) or b"") == HELD_BYTES
    assert window.release(first) is None
    window.hold(second, b"x")
    assert second.data == b"x"
