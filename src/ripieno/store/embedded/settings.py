"""How the embedded server is tuned, and why.

Everything not named here keeps PostgreSQL's default, ``fsync``, ``full_page_writes``,
``synchronous_commit`` and data checksums above all: what is acknowledged is on the disk.
"""

from collections.abc import Mapping

#: PostgreSQL settings, given on the server's command line.
SERVER_SETTINGS: Mapping[str, str] = {
    # Only the unix socket: nothing on the network can reach it, so local trust is enough.
    "listen_addresses": "",
    # One replica of the control plane takes about a dozen; the rest is for people with psql.
    "max_connections": "100",
    # Hot rows, their indexes and recent payloads fit; touched pages alone take real memory.
    "shared_buffers": "256MB",
    # Statements are short and prepared; compiling one takes longer than running it.
    "jit": "off",
    # The same for parallel plans; workers would also need /dev/shm, which containers keep small.
    "max_parallel_workers_per_gather": "0",
    # The working set is in memory: separate I/O processes would only cost context switches.
    "io_method": "sync",
    # There is no standby to feed, so the log may leave out what only a standby reads.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    # After each checkpoint every page is logged whole once. Few checkpoints (``for_disk``), little of that.
    "checkpoint_timeout": "15min",
    # Commits of 512 tasks at a time write more than the default of shared_buffers / 32.
    "wal_buffers": "16MB",
    # Claims commit without waiting for the disk; this bounds how many a crash forgets.
    "wal_writer_delay": "10ms",
    # Laptops have solid-state disks; an index is right where the default sees a scan.
    "random_page_cost": "1.1",
    "effective_cache_size": "1GB",
    # Every task's row dies several times. Vacuum often and in small bites, or the claim
    # walks over dead index entries; 2 ms of pause a bite keeps it from the foreground.
    "autovacuum_naptime": "5s",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_limit": "1000",
    # A client that was killed inside a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "60s",
    # Times are aware and UTC everywhere; so is the log.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # One line a checkpoint is noise to the person at the laptop.
    "log_checkpoints": "off",
    # A statement that PostgreSQL refuses is told to whoever sent it, which logs it where it is news. Here
    # it would be a line for each crossing of two commits; what ends a backend or the server is still told.
    "log_min_messages": "log",
}


#: The log takes no more than this part of the room that is free when the server starts, and never less than so much.
_LOG_PART = 4
_SMALLEST_LOG_MB = 256
_LARGEST_LOG_MB = 2048


def for_disk(free_bytes: int) -> dict[str, str]:
    """The settings that depend on how much room the disk has: a log that fills it stops the server."""
    log_mb = free_bytes // 1024**2 // _LOG_PART
    return {"max_wal_size": f"{min(max(log_mb, _SMALLEST_LOG_MB), _LARGEST_LOG_MB)}MB"}


def as_arguments(overrides: Mapping[str, str]) -> list[str]:
    """The settings as arguments of ``postgres``, ``overrides`` winning."""
    return [part for name, value in {**SERVER_SETTINGS, **overrides}.items() for part in ("-c", f"{name}={value}")]
