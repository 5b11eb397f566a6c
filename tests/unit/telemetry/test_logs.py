"""Where log lines go and what they look like."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ripieno.telemetry import LogSettings, configure_logs


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_everything_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings())
    structlog.get_logger("ours").info("agent_lost", agent="a b", slots=2)
    logging.getLogger("theirs").info("in %s", "passing")
    ours, theirs = capsys.readouterr().err.splitlines()
    assert 'level=info event=agent_lost agent="a b" slots=2 logger=ours' in ours
    assert 'level=info event="in passing" logger=theirs' in theirs


def test_with_a_file_only_warnings_go_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(file=tmp_path / "log"))
    structlog.get_logger("ours").info("quiet")
    structlog.get_logger("ours").warning("loud")
    assert "loud" in capsys.readouterr().err
    assert [line.split()[2] for line in (tmp_path / "log").read_text().splitlines()] == ["event=quiet", "event=loud"]


def test_the_level_is_respected(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(level="error"))
    structlog.get_logger("ours").warning("too_mild")
    assert capsys.readouterr().err == ""


def test_json_has_the_traceback_and_no_local_variable(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(json=True))
    password = "hidden" + "word"
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger("ours").exception("failed", number=len(password))
    line = capsys.readouterr().err
    assert json.loads(line)["event"] == "failed"
    assert "ValueError: bad" in json.loads(line)["exception"]
    assert "hiddenword" not in line
