"""What a cluster's processes cost: processor time and memory, by kind of process."""

from collections.abc import Iterator

import psutil

#: What ``python -m`` runs -> what it is called here; the commands of ``ripieno`` have their own names.
_MODULES = {"ripieno.worker": "workers", "benchmarks.bare.worker": "workers"}


def processor_s(roots: list[int]) -> dict[str, float]:
    """Seconds of processor time so far, of these processes and all below them, by kind."""
    spent: dict[str, float] = {}
    for process, kind in _family(roots):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent[kind] = spent.get(kind, 0.0) + times.user + times.system
    return spent


def resident_mib(roots: list[int], wanted: str) -> float:
    """Resident memory of the processes of one kind; the largest of them, in MiB."""
    return max((process.memory_info().rss / 2**20 for process, kind in _family(roots) if kind == wanted), default=0.0)


def pids(roots: list[int], wanted: str) -> list[int]:
    """The processes of one kind."""
    return [process.pid for process, kind in _family(roots) if kind == wanted]


def per_task_us(before: dict[str, float], after: dict[str, float], tasks: int) -> str:
    """Microseconds of processor time a task, for people."""
    parts = {kind: (spent - before.get(kind, 0.0)) / tasks * 1e6 for kind, spent in after.items()}
    return ", ".join(f"{kind} {us:.0f}" for kind, us in sorted(parts.items()))


def _family(roots: list[int]) -> Iterator[tuple[psutil.Process, str]]:
    for root in roots:
        try:
            itself = psutil.Process(root)
            family = [itself, *itself.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in family:
            try:
                yield process, _kind(process.cmdline(), process.name())
            except psutil.NoSuchProcess:
                continue


def _kind(arguments: list[str], name: str) -> str:
    if "postgres" in name:
        return "postgres"
    words = [*arguments[arguments.index("-m") + 1 :], "", ""] if "-m" in arguments else ["", ""]
    return words[1] if words[0] == "ripieno" else _MODULES.get(words[0], "other")
