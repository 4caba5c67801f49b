"""What is logged: who did what, from where, in which request; and nothing that is secret."""

import json
import logging
import re

import pytest
import requests
from django.test import Client
from rest_framework.test import APIClient

from executions.services import cancel_execution, start_execution
from executions.tests.helpers import make_user
from executions.tokens import create_token


@pytest.fixture
def events(caplog):
    """What the audit has logged so far: each line's own fields."""
    caplog.set_level(logging.INFO)

    def events():
        return [each for each in caplog.records if each.name == "executions.audit"]

    return events


@pytest.fixture
def starter(db):
    user = make_user("ada", "starter")
    _, secret = create_token(user=user, name="t", expires_at=None)
    return APIClient(
        headers={"Authorization": f"Token {secret}", "X-Request-ID": "abc-1"},
        REMOTE_ADDR="192.0.2.1",
    )


def test_changes_are_logged_whether_they_succeed_or_not(starter, events, caplog):
    made = starter.post("/executions/", {"project_id": "p", "bead_id": "b"}).json()["id"]
    others = start_execution(project_id="p", bead_id="b")
    ended = cancel_execution(start_execution(project_id="p", bead_id="b"))
    starter.post("/executions/", {"project_id": "p"})
    starter.post(f"/executions/{made}/cancel")
    starter.post(f"/executions/{others.pk}/cancel")
    starter.post("/executions/nonsense/retry")
    starter.get("/executions/")

    seen = [(each.event, each.status, getattr(each, "execution", None)) for each in events()]
    assert seen == [
        ("create", 201, None),
        ("create", 400, None),
        ("cancel", 200, made),
        ("cancel", 403, str(others.pk)),
        ("retry", 404, "nonsense"),
    ]
    assert events()[0].made == made
    for each in events():
        assert (each.user, each.address, each.request_id) == ("ada", "192.0.2.1", "abc-1")
    assert ended.status == "cancelled"


def test_a_token_that_is_refused_is_logged(api, events):
    api.get("/executions/", headers={"Authorization": "Token nonsense"})

    [event] = events()
    assert (event.event, event.outcome) == ("token", "refused")
    assert "nonsense" not in event.getMessage()


def test_logins_and_logouts_are_logged(db, events, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = make_user("ada", "operator")
    user.set_password("correct horse")
    user.save()
    client = Client(REMOTE_ADDR="192.0.2.1")
    for name, password in (("ada", "wrong"), ("my password", "ada"), ("ada", "correct horse")):
        client.post("/accounts/login/", {"username": name, "password": password})
    client.post("/accounts/logout/")

    seen = [
        (each.event, getattr(each, "outcome", None), getattr(each, "user", None))
        for each in events()
    ]
    assert seen == [
        ("login", "failed", "ada"),
        ("login", "failed", None),  # what was typed as a name is perhaps a password
        ("login", "succeeded", "ada"),
        ("logout", None, "ada"),
    ]
    assert {each.address for each in events()} == {"192.0.2.1"}


def test_tokens_made_and_revoked_are_logged(admin_client, admin_user, events):
    url = "/admin/executions/apitoken/"
    admin_client.post(f"{url}add/", {"user": admin_user.pk, "name": "a"})
    made = admin_user.api_tokens.get()
    selected = {"action": "delete_selected", "_selected_action": [made.pk], "post": "yes"}
    admin_client.post(url, selected)

    seen = [(each.event, each.outcome, each.of, each.token) for each in events()[-2:]]
    assert seen == [
        ("token", "made", "admin", made.pk),
        ("token", "revoked", "admin", made.pk),
    ]


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 65, "é", "a\nb"])
def test_an_id_is_made_where_none_is_sent_or_a_bad_one(client, sent):
    headers = {} if sent is None else {"X-Request-ID": sent}
    answers = {client.get("/livez", headers=headers)["X-Request-ID"] for _ in range(2)}

    assert len(answers) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in answers)


def test_lines_are_json_and_hold_nothing_secret(installation):
    """Everything that a server and a worker print while they are used in every way."""
    installation.manage("shell", "-v0", "-c", MAKE_ADMIN)
    secret = installation.manage("create_token", "root").strip()
    installation.start_worker(EXECUTION_COMMAND="sh -c 'echo out; echo \"$CONTEXT\" | rev'")
    installation.start_server(OPEN_ACCESS="off")
    url = f"{installation.url}/executions/"
    headers = {"Authorization": f"Token {secret}", "X-Request-ID": "of-the-caller"}
    session = requests.Session()
    session.headers.update(headers)
    body = {"project_id": "p", "bead_id": "b", "context": "quite-secret"}
    made = session.post(url, json=body)
    assert made.headers["X-Request-ID"] == "of-the-caller"
    execution = made.json()["id"]
    follow = {"Accept": "text/event-stream"}
    assert "terces-etiuq" in session.get(f"{url}{execution}/output", headers=follow).text
    for call in ("cancel", "retry", "nonsense"):
        session.post(f"{url}{execution}/{call}")
    session.post(url, data='{"context": "quite-secret')
    session.post(url, data="x" * 2_000_000)
    requests.get(url, headers={"Authorization": f"Token {secret}x"})
    requests.post(
        f"{installation.url}/accounts/login/", data={"username": "root", "password": "my-word"}
    )

    printed = installation.printed
    lines = [json.loads(line) for line in printed.splitlines()]
    assert all({"level", "logger", "message", "timestamp"} <= set(line) for line in lines)
    created = [each for each in lines if each.get("event") == "create"]
    assert [each["status"] for each in created] == [201, 415]
    assert {(each["user"], each["request_id"]) for each in created} == {("root", "of-the-caller")}
    for each in (secret, secret[15:30], "quite-secret", "terces-etiuq", "my-word", "Traceback"):
        assert each not in printed


MAKE_ADMIN = """
from django.contrib.auth.models import User
User.objects.create_superuser("root", password="correct horse")
"""


def test_lines_are_for_people_where_they_are_asked_for(installation):
    installation.start_server(LOG_FORMAT="line")
    requests.post(
        f"{installation.url}/executions/x/cancel", headers={"X-Request-ID": "of-the-caller"}
    )

    [line] = [line for line in installation.printed.splitlines() if "event=" in line]
    assert line.endswith(
        'INFO executions.audit [of-the-caller]: event="cancel" address="127.0.0.1" '
        'execution="x" status=404'
    )
