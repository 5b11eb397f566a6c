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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that its cluster is stopped
    module = import_module(f"benchmarks.subjects.{SUBJECTS[arguments.subject].module}")
    figures = module.measure(Scale(quick=arguments.quick))
    rows = [replace(figure, subject=arguments.subject).to_json() for figure in figures]
    arguments.to.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
