"""The settings of the embedded server, with reasons.

Settings not named here keep PostgreSQL's default, in particular ``fsync``, ``full_page_writes``,
``synchronous_commit`` and data checksums: what is acknowledged is on the disk.
"""

from collections.abc import Mapping

#: PostgreSQL settings, given on the server's command line.
SERVER_SETTINGS: Mapping[str, str] = {
    # Only the unix socket: nothing on the network can reach it, so local trust is enough.
    "listen_addresses": "",
    # One replica of the control plane uses about a dozen; the others are for people with psql.
    "max_connections": "100",
    # Large enough for hot rows, their indexes and recent payloads; only pages in use take real memory.
    "shared_buffers": "256MB",
    # Statements are short and prepared; compiling one takes longer than running it.
    "jit": "off",
    # Parallel plans cost more than they save, too; workers would also need /dev/shm, which containers keep small.
    "max_parallel_workers_per_gather": "0",
    # The working set is in memory: separate I/O processes would only cost context switches.
    "io_method": "sync",
    # There is no standby to feed, so the log may leave out what only a standby reads.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    # After each checkpoint every page is logged whole once: few checkpoints (``for_disk``) keep the log small.
    "checkpoint_timeout": "15min",
    # Commits of 512 tasks at a time write more than the default of shared_buffers / 32.
    "wal_buffers": "16MB",
    # Claims commit without waiting for the disk; this bounds how many of them a crash undoes.
    "wal_writer_delay": "10ms",
    # Laptops have solid-state disks; with the default, the planner scans tables where an index is faster.
    "random_page_cost": "1.1",
    "effective_cache_size": "1GB",
    # Every task's row is updated several times. Without frequent vacuums in small steps, claims
    # read dead index entries; a pause of 2 ms a step keeps vacuum from slowing down other work.
    "autovacuum_naptime": "5s",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_limit": "1000",
    # A client that has stopped inside a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "60s",
    # Times are in UTC everywhere, and in the log as well.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # A line for each checkpoint is of no use to a person at a laptop.
    "log_checkpoints": "off",
    # The sender of a refused statement gets the error, and logs it where needed. The server would log
    # a line for each crossing of two commits; it still logs what ends a backend or the server.
    "log_min_messages": "log",
}


#: The write-ahead log takes at most a fourth of the disk that is free when the server starts, within these bounds.
_LOG_PART = 4
_SMALLEST_LOG_MB = 256
_LARGEST_LOG_MB = 2048


def for_disk(free_bytes: int) -> dict[str, str]:
    """Return the settings that depend on the free disk: a write-ahead log that fills it stops the server."""
    log_mb = free_bytes // 1024**2 // _LOG_PART
    return {"max_wal_size": f"{min(max(log_mb, _SMALLEST_LOG_MB), _LARGEST_LOG_MB)}MB"}


def as_arguments(overrides: Mapping[str, str]) -> list[str]:
    """Return the settings as arguments of ``postgres``; ``overrides`` take precedence."""
    return [part for name, value in {**SERVER_SETTINGS, **overrides}.items() for part in ("-c", f"{name}={value}")]
