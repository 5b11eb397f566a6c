"""Telemetry of the processes: logs at present; metrics and traces would be added here.

A module takes its logger by ``structlog.get_logger(__name__)`` and logs events in the past
tense with fields (``log.warning("agent_lost", agent=name)``); log lines of libraries that use the
standard ``logging`` have the same shape. The command line decides once where log lines go, with
``configure_logs``.
"""

from ripieno.telemetry.logs import LogSettings, configure_logs

__all__ = ["LogSettings", "configure_logs"]
