"""Configuration of logging: where log lines go and what they look like."""

import logging
import logging.handlers
import sys
from dataclasses import dataclass
from pathlib import Path

import structlog
from structlog.typing import Processor

#: A log file is put aside at this size in bytes; three old ones are kept.
FILE_LIMIT_BYTES = 10 * 1024 * 1024
OLD_FILES_KEPT = 3


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Settings of a process's logs.

    Attributes:
        level: The least severe level that is logged: debug, info, warning or error.
        json: Whether a line is a JSON object instead of ``key=value``.
        file: File that gets all log lines, while only warnings and errors go to standard error; None
            sends all lines to standard error.
    """

    level: str = "info"
    json: bool = False
    file: Path | None = None


def configure_logs(settings: LogSettings) -> None:
    """Configure this process's logging, structlog's and the standard library's, as `settings` say.

    Raises:
        OSError: if the log file cannot be written.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.setLevel(settings.level.upper())
    root.handlers = _handlers(settings)
    for handler in root.handlers:
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *_rendering(json=settings.json),
                ],
            )
        )


def _handlers(settings: LogSettings) -> list[logging.Handler]:
    terminal = logging.StreamHandler(sys.stderr)
    if settings.file is None:
        return [terminal]
    terminal.setLevel(logging.WARNING)
    file = logging.handlers.RotatingFileHandler(
        settings.file, maxBytes=FILE_LIMIT_BYTES, backupCount=OLD_FILES_KEPT, encoding="utf-8"
    )
    return [file, terminal]


def _rendering(*, json: bool) -> list[Processor]:
    shape: Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.processors.LogfmtRenderer(key_order=["at", "level", "event"], bool_as_flag=False)
    )
    # Plain tracebacks: with local variables they would show payloads and passwords.
    return [structlog.processors.format_exc_info, shape]
