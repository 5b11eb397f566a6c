import subprocess
import sys

import ripieno.worker


def test_everything_public_is_there_and_explained() -> None:
    assert sorted(ripieno.worker.__all__) == ripieno.worker.__all__
    assert all(getattr(ripieno.worker, name).__doc__ for name in ripieno.worker.__all__)


def test_the_package_needs_grpc_and_protobuf_alone() -> None:
    """WRK-5."""
    program = (
        "import sys; before = set(sys.modules); import ripieno.worker;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    # gRPC itself imports its sisters where they are installed.
    assert not set(out.split()) & {"asyncpg", "click", "cloudpickle", "numpy", "obstore", "rich", "structlog", "uvloop"}
