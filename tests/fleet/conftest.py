"""A PostgreSQL server for the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.cluster.postgres import Postgres, binaries


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if binaries() is None:
        pytest.skip("no PostgreSQL here: install the system's, or the package pgserver")
    server = Postgres()
    try:
        server.start()
        server.create()
        yield server
    finally:
        server.close()
