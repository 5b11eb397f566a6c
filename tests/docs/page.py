"""``Page``: the place in which the blocks of one document run, as a reader would run them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from docs.blocks import Block, fits

ROOT = Path(__file__).parents[2]
PATIENCE_S = 100
_READY = re.compile(r"ready at (\S+:\d+)")

#: An interpreter whose blocks share a namespace, as if they were typed in one after the other.
_INTERPRETER = """
import contextlib, io, json, sys, traceback

def run_blocks(names):
    for line in sys.stdin:
        code, where = json.loads(line)
        printed, failure = io.StringIO(), ""
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(code, where, "exec"), names)
            except BaseException:
                failure = traceback.format_exc()
        print(json.dumps([printed.getvalue(), failure]), flush=True)

run_blocks(globals())
"""


class Page:
    """A directory, an environment, and the processes that the blocks of one document have started."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self._closing = contextlib.ExitStack()
        for name in ("README.md", "docs", "examples"):
            (directory / name).symlink_to(ROOT / name)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        home = {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
        self._environment: Mapping[str, str] = (
            os.environ
            | home
            | {
                "PATH": path,
                "RIPIENO_ADDRESS": address,
                "COLUMNS": "100",
                # Modules of the page are found by programs of the page alone.
                "PYTHONPATH": str(directory),
            }
        )
        self._interpreter: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._interpreter is not None:
            self._interpreter.kill()  # it may be in the middle of a block
        self._closing.close()

    def run(self, block: Block) -> None:
        """Run a block, and see that it prints what the document says.

        Raises:
            AssertionError: it failed, or printed something else.
        """
        if block.file:
            (self.directory / block.file).write_text(block.code)
        elif block.language == "python":
            self._expect(block, *self._python(block))
        elif block.code.startswith("ripieno up"):
            self._up(block)
        else:
            self._expect(block, *self._shell(block))

    def _expect(self, block: Block, printed: str, failure: str) -> None:
        assert not failure, f"{block.where}: {failure}\nprinted: {printed}"
        assert block.printed is None or fits(printed, block.printed), f"{block.where} printed:\n{printed}"

    def _python(self, block: Block) -> tuple[str, str]:
        if self._interpreter is None:
            self._interpreter = subprocess.Popen(
                [sys.executable, "-c", _INTERPRETER],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._closing.enter_context(self._interpreter)
        assert self._interpreter.stdin is not None and self._interpreter.stdout is not None
        self._interpreter.stdin.write(json.dumps([block.code, block.where]) + "\n")
        self._interpreter.stdin.flush()
        printed, failure = json.loads(self._interpreter.stdout.readline())
        return printed, failure

    def _shell(self, block: Block) -> tuple[str, str]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        wrong = done.returncode != block.exit_code
        return done.stdout + ("" if block.exit_code == 0 else done.stderr), (
            f"ended with {done.returncode}: {done.stderr}" if wrong else ""
        )

    def _up(self, block: Block) -> None:
        """Start the cluster of a page, which lives until its end; the blocks behind it use it."""
        data = tempfile.mkdtemp(prefix="rp-d-")
        self._closing.callback(subprocess.run, ["rm", "-r", data], check=True)
        command = f"exec {block.code.strip()} --data {data} --listen 127.0.0.1:0 --slots 2"
        up = subprocess.Popen(
            ["bash", "-c", command], cwd=self.directory, env=self._environment, stdout=subprocess.PIPE, text=True
        )
        self._closing.enter_context(up)
        self._closing.callback(up.send_signal, signal.SIGTERM)
        assert up.stdout is not None
        ready = _READY.search(up.stdout.readline())
        assert ready is not None, f"{block.where}: no ready line"
        self._environment = {**self._environment, "RIPIENO_ADDRESS": ready[1]}
        self._interpreter = None  # that of the blocks before is with another cluster, and ends with the page
