"""What only a database that is a server of its own can do to a service."""

from concurrent.futures import ThreadPoolExecutor

import requests

from executions.tests.helpers import start_deaf_worker
from executions.tests.installation import wait_for

CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query {which} '%LISTEN%'
"""


def cut(service, which):
    """End connections to the database, as a restart of it would."""
    assert service.database.query(CUT.format(which=which))


def test_all_go_on_when_their_connections_are_cut(installation):
    installation.start_server()
    start_deaf_worker(installation)
    assert installation.wait_for_end(installation.post(context="true"))["status"] == "completed"

    url = f"{installation.url}/executions/"
    slowly = {"Accept": "application/json; indent=0"}  # so that the ViewSet answers

    def get_slowly(_):
        return requests.get(url, headers=slowly).status_code

    with ThreadPoolExecutor(8) as pool:  # so that each thread of the server has a connection
        assert set(pool.map(get_slowly, range(64))) == {200}
    cut(installation, "NOT LIKE")
    cut(installation, "LIKE")

    # The server finds out before anything can be lost: nobody gets a 503.
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get_slowly, range(64))) == {200}
    assert [requests.get(url).status_code for _ in range(8)] == [200] * 8
    for _ in range(10):
        assert installation.wait_for_end(installation.post(context="true"))["status"] == "completed"


def test_a_worker_listens_again_when_only_that_connection_was_cut(installation):
    installation.start_server()
    start_deaf_worker(installation)

    for _ in range(3):
        cut(installation, "LIKE")
        wait_for(
            lambda: installation.database.query(
                "SELECT 1 FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
        )
        execution = installation.post(context="true")
        assert installation.wait_for_end(execution)["status"] == "completed"
