"""POST /executions/"""

import json
import logging

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from executions import services
from executions.models import Execution
from executions.tests.helpers import make_user

URL = "/executions/"
VALID = {"project_id": "proj-1", "bead_id": "beads-001"}


def post(api, body, content_type="application/json"):
    return api.generic("POST", URL, body, content_type=content_type)


def test_create_execution(api):
    """The seed's."""
    response = api.post("/executions/", VALID)

    assert response.status_code == 201
    data = response.json()
    assert data["status"] == "pending"
    assert "id" in data


def test_answers_with_the_whole_execution_and_its_address(api):
    response = api.post(URL, {**VALID, "context": "Why?", "timeout": 9})

    created = response.json()
    assert response["Location"] == f"http://testserver/executions/{created['id']}"
    assert api.get(response["Location"]).json() == created
    assert created.pop("id")
    assert created.pop("started_at").endswith("Z")
    assert created == {
        **VALID,
        "status": "pending",
        "running_at": None,
        "completed_at": None,
        "output": None,
        "output_truncated": False,
        "output_size": 0,
        "context": "Why?",
        "exit_code": None,
        "failure_reason": None,
        "error": None,
        "timeout": 9,
        "cancel_requested_at": None,
        "retry_of": None,
        "requested_by": None,
        "worker": None,
    }


@pytest.mark.parametrize("url", ["/executions", "/executions/"])
def test_is_the_same_with_and_without_the_slash(api, url):
    assert api.post(url, VALID).status_code == 201


@pytest.mark.parametrize(
    "name", ["a.b", "a b", " a ", "own/er", "..", "проект", "🐙", "-x", "x" * 255]
)
def test_ids_hold_any_script_as_they_are(api, name):
    created = api.post(URL, {"project_id": name, "bead_id": name}).json()

    assert (created["project_id"], created["bead_id"]) == (name, name)
    assert [each["id"] for each in api.get(URL, {"project_id": name}).json()] == [created["id"]]


@pytest.mark.parametrize("given", [{}, {"timeout": None}])
def test_without_a_timeout_the_default_holds(api, settings, given):
    settings.EXECUTION_TIMEOUT = 77

    assert api.post(URL, VALID | given).json()["timeout"] == 77


@pytest.mark.parametrize("context", [None, "", "{project_id} {brace}\n\t", "é" * 51_200])
def test_a_context_is_kept_as_it_is(api, context):
    assert api.post(URL, {**VALID, "context": context}).json()["context"] == context


BAD_FIELDS = [
    ({}, "project_id"),
    ({"project_id": "p"}, "bead_id"),
    ({**VALID, "project_id": None}, "project_id"),
    ({**VALID, "project_id": 7}, "project_id"),
    ({**VALID, "project_id": True}, "project_id"),
    ({**VALID, "project_id": ["p"]}, "project_id"),
    ({**VALID, "project_id": ""}, "project_id"),
    ({**VALID, "bead_id": "x" * 256}, "bead_id"),
    ({**VALID, "bead_id": "a\0b"}, "bead_id"),
    ({**VALID, "bead_id": "a\nb"}, "bead_id"),
    ({**VALID, "bead_id": "a\n"}, "bead_id"),
    ({**VALID, "bead_id": "a\x7fb"}, "bead_id"),
    ({**VALID, "bead_id": "a\x9fb"}, "bead_id"),
    ({**VALID, "bead_id": "\ud800"}, "bead_id"),
    ({**VALID, "context": 7}, "context"),
    ({**VALID, "context": "a\0b"}, "context"),
    ({**VALID, "context": "\udfff"}, "context"),
    ({**VALID, "context": "é" * 51_201}, "context"),
    ({**VALID, "context": "x" * 200_000}, "context"),
    ({**VALID, "timeout": 0}, "timeout"),
    ({**VALID, "timeout": -1}, "timeout"),
    ({**VALID, "timeout": "9"}, "timeout"),
    ({**VALID, "timeout": 1.5}, "timeout"),
    ({**VALID, "timeout": True}, "timeout"),
    ({**VALID, "timeout": 10**400}, "timeout"),
    ({**VALID, "contxt": "typo"}, "contxt"),
    ({**VALID, "status": "completed"}, "status"),
]


@pytest.mark.parametrize(("body", "field"), BAD_FIELDS)
def test_a_bad_field_is_named(api, caplog, body, field):
    response = post(api, json.dumps(body))

    assert response.status_code == 400
    assert field in response.json()
    assert_nothing_happened(caplog)


BAD_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'["project_id", "bead_id"]',
    b'"text"',
    b"7",
    b"\xff\xfe",
    b'{"project_id": "\xff", "bead_id": "b"}',
    b'{"project_id": "p", "bead_id": "b", "timeout": NaN}',
    b'{"project_id": "p", "bead_id": "b", "project_id": "q"}',
    b'{"project_id": "p", "bead_id": "b"} x',
    b"[" * 100_000,
    b"1" * 5000,
    rb'{"\ud800": 1, "project_id": "p", "bead_id": "b"}',
    b'{"a": 1' + b"".join(b', "%d": 1' % number for number in range(50_000)) + b', "9": 1}',
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_that_is_no_object_is_refused(api, caplog, body):
    response = post(api, body)

    assert response.status_code == 400
    assert response.json()
    assert_nothing_happened(caplog)


def test_no_body_at_all_is_refused(api, caplog):
    response = api.generic("POST", URL)

    assert response.status_code in (400, 415)
    assert_nothing_happened(caplog)


@pytest.mark.parametrize("charset", ["utf-16", "base64", "zlib", "nonsense"])
def test_the_body_is_utf_8_whatever_it_says(api, charset):
    response = post(api, json.dumps(VALID), f"application/json; charset={charset}")

    assert response.status_code == 201


def test_a_huge_body_is_refused(api, caplog):
    response = post(api, b'{"context": "' + b"x" * 2_000_000 + b'"}')

    assert response.status_code == 413
    assert "detail" in response.json()
    assert_nothing_happened(caplog)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"],
)
def test_only_json_is_accepted(api, caplog, content_type):
    response = post(api, json.dumps(VALID), content_type)

    assert response.status_code == 415
    assert "detail" in response.json()
    assert_nothing_happened(caplog)


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize("url", [URL, "/executions/01a204e9-82c4-73ea-8b12-b77399aed641"])
def test_other_methods_are_not_allowed(api, method, url):
    response = getattr(api, method)(url)

    assert response.status_code == 405
    assert "detail" in response.json()


def test_an_unreachable_database_is_503_and_never_201(api, monkeypatch):
    def fail(**_):
        raise OperationalError("database is locked")

    monkeypatch.setattr(services, "start_execution", fail)
    response = api.post(URL, VALID)

    assert response.status_code == 503
    assert int(response["Retry-After"]) > 0
    assert "detail" in response.json()


def test_requested_by_is_the_user(db):
    client = APIClient()
    client.force_authenticate(make_user("ada", "starter"))

    assert client.post(URL, VALID).json()["requested_by"] == "ada"


def assert_nothing_happened(caplog):
    assert not Execution.objects.exists()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
