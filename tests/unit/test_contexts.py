"""The file of contexts: what counts, what is refused, and that it is replaced as a whole."""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ripieno.cli.root import cli
from ripieno.client import AsyncClient
from ripieno.contexts import (
    Context,
    Contexts,
    Place,
    change_contexts,
    contexts_file,
    default_place,
    find_context,
    read_contexts,
)
from ripieno.domain.errors import InvalidRequestError, NotFoundError

VARIABLES = ("RIPIENO_ADDRESS", "RIPIENO_CONTEXT", "XDG_CONFIG_HOME")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the contexts of this test are."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".config" / "ripieno" / "contexts.json"


def run(*words: str, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(cli, ["context", *words])


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


TWO = Contexts({"one": Context("a:1"), "two": Context("b:2,c:3", "/ca.pem", "secret")}, "two")


def test_where_the_file_is(path: Path) -> None:
    assert contexts_file() == path
    assert contexts_file({"XDG_CONFIG_HOME": "/etc/mine"}) == Path("/etc/mine/ripieno/contexts.json")
    assert contexts_file({"XDG_CONFIG_HOME": "relative", "HOME": "/home/me"}) == Path(
        "/home/me/.config/ripieno/contexts.json"
    )


@pytest.mark.parametrize(
    ("variables", "context", "place"),
    [
        ({}, None, Place("b:2,c:3", "context two")),
        ({"RIPIENO_CONTEXT": "one"}, None, Place("a:1", "context one")),
        ({"RIPIENO_CONTEXT": ""}, None, Place("b:2,c:3", "context two")),
        ({"RIPIENO_CONTEXT": "one", "RIPIENO_ADDRESS": "d:4"}, None, Place("d:4", "RIPIENO_ADDRESS")),
        ({"RIPIENO_ADDRESS": ""}, None, Place("b:2,c:3", "context two")),
        ({"RIPIENO_ADDRESS": "d:4"}, "one", Place("a:1", "context one")),
    ],
)
def test_what_counts(path: Path, variables: Mapping[str, str], context: str | None, place: Place) -> None:
    change_contexts(path, lambda _: TWO)
    assert default_place({"HOME": os.environ["HOME"], **variables}, context) == place


def test_without_a_file_the_default_counts(path: Path) -> None:
    assert default_place() == Place("127.0.0.1:5001", "")
    with pytest.raises(NotFoundError, match=r"there is no context 'none' in .*; there is none"):
        default_place(context="none")
    write(path, "not read")
    assert default_place({"RIPIENO_ADDRESS": "d:4"}).address == "d:4"


def test_the_client_takes_the_context_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_contexts(path, lambda _: TWO)
    assert AsyncClient().address == "b:2,c:3"
    monkeypatch.setenv("RIPIENO_CONTEXT", "three")
    with pytest.raises(NotFoundError, match="there is 'one', 'two'"):
        AsyncClient()


def test_what_is_written_is_read_and_only_its_user_can(path: Path) -> None:
    assert change_contexts(path, lambda old: old if old == Contexts() else TWO) == Contexts()
    assert change_contexts(path, lambda _: TWO) == read_contexts(path) == TWO
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["contexts.json"]
    assert "secret" not in repr(TWO)


def test_what_a_link_leads_to_is_replaced(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere.json")
    change_contexts(path, lambda _: TWO)
    assert path.is_symlink() and read_contexts(tmp_path / "elsewhere.json") == TWO


def test_what_a_process_left_half_written_is_in_nobodys_way(path: Path) -> None:
    write(path.with_name(".contexts.json.new"), "{", 0o644)
    change_contexts(path, lambda _: TWO)
    assert read_contexts(path) == TWO and path.stat().st_mode & 0o777 == 0o600


def test_changes_at_the_same_time_are_all_kept(path: Path) -> None:
    def add(number: int) -> None:
        change_contexts(path, lambda old: Contexts({**old.by_name, f"c{number}": Context("a:1")}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_contexts(path).by_name) == 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a file of contexts"),
        ("[" * 100_000, "is not a file of contexts"),
        ("{}", "it has no object 'contexts'"),
        ('{"contexts": {"a": {}}}', "context 'a' has no address"),
        ('{"contexts": {"a": {"address": "a:1", "token": 7}}}', "token of context 'a' is no text"),
        ('{"contexts": {"a": {"address": "http://a"}}}', "context 'a': address: "),
        ('{"contexts": {}, "in_use": "a"}', "there is no context 'a', which it says is in use"),
        ("\xff" * 2_000_000, "is longer than 1,048,576 bytes"),
    ],
    ids=range(8),
)
def test_what_is_no_file_of_contexts_is_told(path: Path, text: str, said: str) -> None:
    write(path, text)
    with pytest.raises(InvalidRequestError, match=r"contexts\.json") as refused:
        read_contexts(path)
    assert said in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    write(path, "{}", mode)
    with pytest.raises(InvalidRequestError, match=f"mode {mode:04o}.*: chmod 600 {path}"):
        read_contexts(path)
    with pytest.raises(InvalidRequestError, match="chmod 600"):
        change_contexts(path, lambda _: TWO)
    listed = CliRunner().invoke(cli, ["session", "list"])
    assert (listed.exit_code, "chmod 600" in listed.output) == (2, True)


def test_what_cannot_be_a_file_is_told(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match="cannot be read: Is a directory"):
        read_contexts(path)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(InvalidRequestError, match="is not a plain file"):
        read_contexts(path)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("in the way")
    assert read_contexts(path) == Contexts()
    with pytest.raises(InvalidRequestError, match=r"cannot be written: .*; set XDG_CONFIG_HOME"):
        change_contexts(path, lambda _: TWO)


def test_a_context_from_its_beginning_to_its_end(path: Path, tmp_path: Path) -> None:
    assert run("list").output == ""
    (tmp_path / "ca.pem").touch()
    added = run("add", "prod", "--address", "a:1,b:2", "--certificate", str(tmp_path / "ca.pem"))
    assert added.exit_code == 0
    assert "not used yet" in added.stderr and "`ripieno context use prod`" in added.stderr
    assert run("add", "prod", "--address", "a:1").exit_code == 2
    read = CliRunner().invoke(
        cli, ["context", "add", "dev", "--address", "c:3", "--use", "--token", "-"], input="se cret\n"
    )
    assert read.exit_code == 0 and read_contexts(path).by_name["dev"].token == "se cret"
    assert run("list").output == "* dev   c:3\n  prod  a:1,b:2\n"
    assert json.loads(run("list", "--output", "json").output)[0] == {"in_use": True, "name": "dev", "address": "c:3"}
    shown = run("show", "dev")
    assert "token        kept" in shown.output and "se cret" not in shown.output
    assert json.loads(run("show", "--output", "json").output) == {
        "address": "c:3", "from": "context dev", "file": str(path),
    }  # fmt: skip
    assert json.loads(run("show", "--output", "json", RIPIENO_ADDRESS="d:4").output)["from"] == "RIPIENO_ADDRESS"
    assert run("use", "prod").exit_code == 0
    assert json.loads(run("show", "--output", "json").output)["from"] == "context prod"
    for words in (("use", "none"), ("remove", "none"), ("show", "none")):
        assert run(*words).exit_code == 3
    assert run("use").exit_code == run("use", "prod", "--none").exit_code == 2
    assert run("remove", "prod").exit_code == 0
    assert read_contexts(path).in_use == ""
    assert run("use", "dev").exit_code == 0 and run("use", "--none").exit_code == 0
    assert default_place().source == ""
    with pytest.raises(NotFoundError):
        find_context(read_contexts(path), "prod", path)


def test_a_command_speaks_to_the_cluster_that_is_named(path: Path) -> None:
    change_contexts(path, lambda _: Contexts({"one": Context("127.0.0.1:1"), "two": Context("127.0.0.1:2")}, "two"))
    for words, variables, address in (
        ((), {}, "127.0.0.1:2"),
        (("--context", "one"), {}, "127.0.0.1:1"),
        (("--context", "one"), {"RIPIENO_ADDRESS": "127.0.0.1:3"}, "127.0.0.1:1"),
        ((), {"RIPIENO_CONTEXT": "one"}, "127.0.0.1:1"),
        (("--address", "127.0.0.1:4"), {"RIPIENO_CONTEXT": "none"}, "127.0.0.1:4"),
    ):
        result = CliRunner(env=variables).invoke(cli, ["task", "show", "t", *words])
        assert (result.exit_code, f"no answer from {address} (" in result.output) == (4, True), result.output
    both = CliRunner().invoke(cli, ["task", "list", "--context", "one", "--address", "127.0.0.1:4"])
    assert (both.exit_code, "give one of the two" in both.output) == (2, True)
