"""One private cluster for all tests of functions; each test joins it with a session of its own."""

from collections.abc import Iterator

import pytest

import ripieno
from ripieno.functions.calling.private import PrivateCluster


@pytest.fixture(scope="session")
def private() -> Iterator[PrivateCluster]:
    private = PrivateCluster(2)
    yield private
    private.close()


@pytest.fixture
def cluster(private: PrivateCluster) -> Iterator[ripieno.Cluster]:
    with ripieno.connect(private.address, max_retries=0) as cluster:
        yield cluster
