"""GET /livez and /readyz"""

import pytest
from django.db import OperationalError, connection


@pytest.mark.parametrize("url", ["/livez", "/readyz"])
def test_a_healthy_service_answers_anyone(db, client, url):
    response = client.get(url)

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_without_a_database_it_lives_but_is_not_ready(db, client):
    def fail(*_):
        raise OperationalError("unable to open database file")

    with connection.execute_wrapper(fail):
        ready, alive = client.get("/readyz"), client.get("/livez")

    assert (ready.status_code, alive.status_code) == (503, 200)
    assert int(ready["Retry-After"]) > 0
