"""What only a database that is a server of its own can do to a service."""

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

    cut(installation, "NOT LIKE")
    cut(installation, "LIKE")

    def post():
        body = {"project_id": "p", "bead_id": "b", "context": "true"}
        answer = requests.post(f"{installation.url}/executions/", json=body, timeout=30)
        assert answer.status_code in (201, 503), answer.text
        return answer.json() if answer.ok else None

    for _ in range(10):
        execution = wait_for(post)
        assert wait_for(lambda found=execution: ended(installation, found))["status"] == "completed"


def ended(service, execution):
    answer = requests.get(f"{service.url}/executions/{execution['id']}", timeout=30)
    assert answer.status_code in (200, 503), answer.text
    return answer.json() if answer.ok and answer.json()["completed_at"] else None


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
