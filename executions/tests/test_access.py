"""Who gets in: nobody without a login, unless access is open."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from executions.models import Execution
from executions.tests.helpers import make_user

CALLS = [
    ("get", "/executions/"),
    ("post", "/executions/"),
    ("options", "/executions/"),
    ("get", "/executions/01a204e9-82c4-73ea-8b12-b77399aed641"),
    ("get", "/"),
]


@pytest.mark.parametrize(("method", "url"), CALLS)
def test_without_a_login_every_call_is_refused(db, method, url):
    response = getattr(APIClient(), method)(url)

    assert response.status_code == 401
    assert "detail" in response.json()


def test_a_session_alone_is_not_enough_to_start_something(db):
    """A form on a foreign page brings the cookie, but not the CSRF token."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(make_user("ada", "starter"))

    response = client.post("/executions/", {"project_id": "p", "bead_id": "b"})

    assert response.status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver:81"])
@pytest.mark.parametrize("call", ["", "01a204e9-82c4-73ea-8b12-b77399aed641/cancel"])
def test_a_foreign_page_starts_nothing_with_open_access(api, origin, call):
    body = {"project_id": "p", "bead_id": "b"}

    refused = api.post(f"/executions/{call}", body, headers={"Origin": origin})
    assert refused.status_code == 403
    assert not Execution.objects.exists()

    own = api.post("/executions/", body, headers={"Origin": "http://testserver"})
    assert own.status_code == 201


def test_an_unknown_host_is_refused(api):
    response = api.get("/executions/", headers={"Host": "evil.example"})

    assert response.status_code == 400


@pytest.mark.parametrize("open_access", [False, True])
def test_the_admin_always_wants_a_login(db, settings, open_access):
    settings.OPEN_ACCESS = open_access

    response = Client().get("/admin/executions/execution/")

    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")
