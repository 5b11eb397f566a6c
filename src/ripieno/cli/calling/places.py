"""The places of the cluster's lists: which method of which service tells their rows."""

from ripieno.cli.calling.listing import Place
from ripieno.wire.protos.v1.agents_pb2_grpc import AgentsStub
from ripieno.wire.protos.v1.partitions_pb2_grpc import PartitionsStub
from ripieno.wire.protos.v1.results_pb2_grpc import ResultsStub
from ripieno.wire.protos.v1.sessions_pb2_grpc import SessionsStub
from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub

SESSIONS = Place(SessionsStub, "List", "sessions")
TASKS = Place(TasksStub, "List", "tasks")
RESULTS = Place(ResultsStub, "List", "results")
AGENTS = Place(AgentsStub, "List", "agents")
PARTITIONS = Place(PartitionsStub, "List", "partitions")
