"""Counts the words of files, one task a file, and adds up pairwise without the counts ever coming here.

    python words.py README.md docs/*.md

A file is read by the task if it is on a disk that the workers share (the default, right for a cluster on
this machine); with --send its text travels in the task.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

import ripieno


def count_text(text: str) -> Counter[str]:
    """Count the words of a text."""
    return Counter(re.findall(r"[^\W\d_]+", text.lower()))


def count_file(path: Path) -> Counter[str]:
    """Count the words of a file."""
    return count_text(path.read_text(encoding="utf-8"))


def add(*counts: Counter[str]) -> Counter[str]:
    """Add counts up."""
    return sum(counts, Counter())


def count(cluster: ripieno.Cluster, files: list[Path], *, send: bool) -> Counter[str]:
    """Count the words of all files together."""
    if send:
        counts = cluster.map(count_text, [file.read_text(encoding="utf-8") for file in files])
    else:
        counts = cluster.map(count_file, [file.resolve() for file in files])
    # Futures as arguments are data dependencies: each pair is added where both counts are, as soon as they are there.
    while len(counts) > 1:
        counts = [cluster.submit(add, *counts[i : i + 2]) for i in range(0, len(counts), 2)]
    return counts[0].result()


def main() -> None:
    """Count, and print the words that occur most often."""
    parser = argparse.ArgumentParser(description="Counts the words of files on a cluster.")
    parser.add_argument("--send", action="store_true", help="send the texts, rather than have the tasks read the files")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with ripieno.connect() as cluster:
        words = count(cluster, arguments.files, send=arguments.send)
    print(f"{words.total()} words, {len(words)} different")
    for word, times in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:5]:
        print(f"{times:6d} {word}")


if __name__ == "__main__":
    main()
