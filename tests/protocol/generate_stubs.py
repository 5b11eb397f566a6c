"""Compile ``stubs/*.proto`` into the modules beside them.

Usage, in ``tests/``:
    python -m protocol.generate_stubs            write the stubs
    python -m protocol.generate_stubs --check    exit 1 if the committed stubs are not current

The files are compiled from ``tests/``, so that their descriptor names carry a folder of
the suite's own (``protocol/stubs/...``).
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

TESTS = Path(__file__).resolve().parent.parent
STUBS = TESTS / "protocol" / "stubs"


def generate() -> dict[str, str]:
    """Compile all ``.proto`` files; return the text of each module by its file name."""
    protos = sorted(STUBS.glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        bin_dir = Path(sys.executable).parent
        arguments = [
            "protoc",
            f"-I{TESTS}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
            f"--python_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--mypy_grpc_out=quiet:{scratch}",
            *map(str, protos),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed; its message is above")
        services = {proto.stem for proto in protos if "\nservice " in proto.read_text()}
        modules = {}
        for path in sorted((Path(scratch) / "protocol" / "stubs").iterdir()):
            stem = path.name.split("_pb2")[0]
            if "_pb2_grpc" not in path.name or stem in services:
                modules[path.name] = path.read_text()
    return modules


def stale(modules: dict[str, str]) -> list[str]:
    """Names of the committed modules that differ from freshly generated ones, or are missing."""
    return [name for name, text in modules.items() if not (STUBS / name).exists() or (STUBS / name).read_text() != text]


if __name__ == "__main__":
    generated = generate()
    if sys.argv[1:] == ["--check"]:
        if outdated := stale(generated):
            raise SystemExit("stubs that are not current: " + ", ".join(outdated))
        raise SystemExit(0)
    for name, text in generated.items():
        (STUBS / name).write_text(text)
