"""Compile the .proto files into the committed stubs.

Usage:
    python tools/generate_stubs.py            write the stubs
    python tools/generate_stubs.py --check    exit 1 if the committed stubs are not current

The .proto files are compiled from the root ``src``, so that their descriptor file names
carry the project's folder (``ripieno/wire/protos/...``), and the generated modules are
pointed at the project's own descriptor pool (see ``ripieno.wire.pool``).
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PROTOS = SOURCE / "ripieno" / "wire" / "protos"

DEFAULT_POOL = "from google.protobuf import descriptor_pool as _descriptor_pool"
OWN_POOL = "from ripieno.wire import pool as _descriptor_pool"


def generate(target: Path) -> list[Path]:
    """Write the stubs of all .proto files below ``target`` and return their paths there."""
    protos = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    bin_dir = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"-I{SOURCE}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its message is above")
    return [path for proto in protos for path in _finish(target, Path(proto))]


def _finish(target: Path, proto: Path) -> list[Path]:
    """Point one proto's modules at the own pool, drop its empty service stubs, return what stays."""
    stem = target / proto.relative_to(SOURCE).with_suffix("")
    messages = Path(f"{stem}_pb2.py")
    text = messages.read_text()
    if DEFAULT_POOL not in text:
        raise SystemExit(f"{messages.name}: the generated import of the descriptor pool has changed its shape")
    messages.write_text(text.replace(DEFAULT_POOL, OWN_POOL))
    services = [Path(f"{stem}_pb2_grpc.py"), Path(f"{stem}_pb2_grpc.pyi")]
    if "\nservice " not in proto.read_text():
        for path in services:
            path.unlink()
        services = []
    return [messages, messages.with_suffix(".pyi"), *services]


def check() -> int:
    """Compare the committed stubs with freshly generated ones; return an exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = {path.relative_to(scratch): path.read_bytes() for path in generate(Path(scratch))}
    stale = [str(name) for name, content in fresh.items() if not _same(SOURCE / name, content)]
    if stale:
        print("stubs that are not current (run: make stubs):", *stale, sep="\n  ")
    return 1 if stale else 0


def _same(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        raise SystemExit(check())
    for written in generate(SOURCE):
        print(written.relative_to(ROOT))
