"""What the processes tell about themselves: logs now; metrics and traces have their place here.

A module takes its logger by ``structlog.get_logger(__name__)`` and logs events in the past
tense with fields (``log.warning("agent_lost", agent=name)``); libraries that use the
standard ``logging`` come out in the same shape. Where it all goes is decided once, by the
command line, with ``configure_logs``.
"""

from ripieno.telemetry.logs import LogSettings, configure_logs

__all__ = ["LogSettings", "configure_logs"]
