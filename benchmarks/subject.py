"""One subject in a process of its own: ``python -m benchmarks.subject P1 [--quick] --to FILE``."""

import argparse
import json
import signal
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.catalogue import SUBJECTS
from benchmarks.scale import Scale


def main() -> None:
    """Measure it and write its figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.subject")
    parser.add_argument("subject", choices=list(SUBJECTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    subject = SUBJECTS[arguments.subject]
    # Both unwind, so that its cluster is stopped; the clock is for the case that nobody waits for us any more.
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda *_: sys.exit(143))
    signal.alarm(int(subject.limit_s) + 10)
    module = import_module(f"benchmarks.subjects.{subject.module}")
    figures = module.measure(Scale(quick=arguments.quick))
    rows = [replace(figure, subject=arguments.subject).to_json() for figure in figures]
    arguments.to.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
