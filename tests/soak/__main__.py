"""``python -m soak``: load, faults in turn, a verdict."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from soak.run import Soak
from soak.stage import stage


async def main() -> int:
    """Run one soak; the exit code says whether all its rules held."""
    parser = argparse.ArgumentParser(prog="soak", description="Mixed load while one thing after the other says no.")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long it goes on (default: 20)")
    parser.add_argument("--seed", type=int, default=None, help="order of the faults and of the jobs")
    parser.add_argument("--only", default="", help="faults whose names contain this text")
    parser.add_argument("--logs", type=Path, default=None, help="a directory for the logs of the cluster")
    arguments = parser.parse_args()
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ripieno-soak-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)  # an unprivileged PostgreSQL has to pass through
        async with stage(Path(place)) as cluster:
            soak = Soak(cluster, Path(place), random.Random(seed))
            try:
                broken = await soak.run(60 * arguments.minutes, arguments.only)
            finally:
                if arguments.logs is not None:
                    shutil.copytree(cluster.data / "logs", arguments.logs, dirs_exist_ok=True)
    print(f"\n{len(broken)} broken promises" if broken else "\nall promises kept", flush=True)
    for line in broken:
        print(f"  {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    began = time.monotonic()
    code = asyncio.run(main())
    print(f"took {time.monotonic() - began:.0f} s")
    sys.exit(code)
