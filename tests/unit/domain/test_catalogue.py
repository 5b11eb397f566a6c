"""The catalogue of fields, and the places that must agree with it: the messages, the columns, the document."""

import re
from pathlib import Path

import pytest
from google.protobuf.message import Message

from ripieno.domain.catalogue import Kind, Listed, fields_of, find_field, part_of_options
from ripieno.store.reading.columns import SOURCES
from ripieno.wire.protos.v1 import agents_pb2, partitions_pb2, results_pb2, sessions_pb2, tasks_pb2

ROOT = Path(__file__).parents[3]
MESSAGES: dict[Listed, type[Message]] = {
    Listed.SESSIONS: sessions_pb2.Session,
    Listed.TASKS: tasks_pb2.Task,
    Listed.ATTEMPTS: tasks_pb2.Attempt,
    Listed.RESULTS: results_pb2.Result,
    Listed.AGENTS: agents_pb2.AgentState,
    Listed.PARTITIONS: partitions_pb2.Partition,
    Listed.OPTIONS: tasks_pb2.Options,
}
#: Fields of messages that only ``Get`` fills.
ALONE = {Listed.SESSIONS: {"tasks", "stored_bytes"}}


@pytest.mark.parametrize("listed", Listed)
def test_messages_and_columns_have_the_fields_of_the_catalogue(listed: Listed) -> None:
    fields = set(fields_of(listed))
    assert set(MESSAGES[listed].DESCRIPTOR.fields_by_name) - ALONE.get(listed, set()) == fields
    assert set(SOURCES[listed].columns) == fields


@pytest.mark.parametrize("listed", Listed)
def test_the_document_has_the_fields_of_the_catalogue(listed: Listed) -> None:
    document = (ROOT / "docs" / "protocol.md").read_text()
    found = re.search(rf"^\| {listed.value} \| (?P<fields>`.*) \|$", document, re.MULTILINE)
    assert found is not None
    assert re.findall(r"`(\w+)`(\??)", found["fields"]) == [
        (field.name, "?" if field.optional else "") for field in fields_of(listed).values()
    ]


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("options.priority", Kind.NUMBER, None),
        ("options.max_duration", Kind.DURATION, None),
        ("options.color", Kind.TEXT, "color"),
        ("options.a.b", Kind.TEXT, "a.b"),
        ("options.options.priority", Kind.TEXT, "priority"),
        ("options.options.options.x", Kind.TEXT, "options.x"),
    ],
)
def test_options_are_named_by_part_and_by_key(name: str, kind: Kind, key: str | None) -> None:
    field = find_field(Listed.TASKS, name, "")
    assert (field.kind, field.key, field.of) == (kind, key, "options")
    assert part_of_options(field) == (key or name.removeprefix("options."))
