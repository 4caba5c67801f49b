"""Services of our own for a measurement, in temporary folders."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from executions.tests.installation import Installation


@contextmanager
def new_service(server: str) -> Iterator[Installation]:
    """One with an empty database on the server that this URL names; of SQLite if it is empty."""
    with (
        tempfile.TemporaryDirectory(prefix="executions-") as folder,
        Installation(Path(folder), server=server) as installation,
    ):
        installation.manage("migrate", "--verbosity", "0")
        yield installation
