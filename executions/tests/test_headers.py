"""Headers that tell a browser what it must not do; bounds for clients that are slow or large."""

import socket
import time
from contextlib import closing

import pytest
import requests
from django.test import Client

from executions.services import start_execution
from executions.tests.helpers import make_user


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/executions/",
        "/executions/x",
        "/docs",
        "/redoc",
        "/accounts/login/",
        "/admin/login/",
        "/livez",
    ],
)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_every_answer_restrains_the_browser(client, db, path, accept):
    response = client.get(path, headers={"Accept": accept})

    policy = response["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in response


def test_an_output_restrains_the_browser_too(api):
    """It is the one answer whose content is not ours."""
    execution = start_execution(project_id="p", bead_id="b")
    response = api.get(f"/executions/{execution.pk}/output")

    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in response["Content-Security-Policy"]


PUBLIC = {"ALLOWED_HOSTS": "executions.example.com, 127.0.0.1", "OPEN_ACCESS": "off"}
HOST = {"Host": "executions.example.com"}


def test_behind_a_proxy_with_tls_the_browser_is_held_to_it(installation):
    installation.manage("shell", "-v0", "-c", MAKE_ADMIN)
    installation.start_server(SECURE_PROXY_SSL_HEADER="X-Forwarded-Proto", **PUBLIC)
    https = HOST | {"X-Forwarded-Proto": "https"}
    page = requests.get(f"{installation.url}/admin/login/", headers=https)
    assert "max-age=31536000" in page.headers["Strict-Transport-Security"]
    token = page.cookies["csrftoken"]

    answer = requests.post(
        f"{installation.url}/admin/login/",
        data={"username": "root", "password": "correct horse", "csrfmiddlewaretoken": token},
        headers=https | {"Cookie": f"csrftoken={token}", "Referer": f"https://{HOST['Host']}/"},
        allow_redirects=False,
    )
    assert answer.status_code == 302
    cookies = page.raw.headers.getlist("Set-Cookie") + answer.raw.headers.getlist("Set-Cookie")
    assert {each.split("=")[0] for each in cookies} == {"csrftoken", "sessionid"}
    for each in cookies:
        assert {"Secure", "HttpOnly", "SameSite=Lax"} <= set(each.split("; "))


def test_without_such_a_proxy_nobody_can_pose_as_it(installation):
    installation.start_server(**PUBLIC)
    answer = requests.get(
        f"{installation.url}/executions/",
        headers=HOST | {"X-Forwarded-Proto": "https"},
        allow_redirects=False,
    )

    assert answer.status_code == 301
    assert answer.headers["Location"] == "https://executions.example.com/executions/"


MAKE_ADMIN = """
from django.contrib.auth.models import User
User.objects.create_superuser("root", password="correct horse")
"""


def connect(installation, head):
    connection = socket.create_connection(("127.0.0.1", installation.port), timeout=60)
    connection.sendall(head)
    return connection


HEAD = b"POST /executions/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_slow_clients_are_let_go_and_hold_nobody_up(installation):
    """Half a header, and half a body: each from more clients than there are threads."""
    installation.start_server(GRANIAN_HTTP1_HEADER_READ_TIMEOUT="2000")
    began = time.monotonic()
    half_heads = [connect(installation, HEAD) for _ in range(20)]
    half_bodies = [connect(installation, HEAD + b"Content-Length: 100\r\n\r\n{") for _ in range(20)]

    assert requests.get(f"{installation.url}/executions/", timeout=10).status_code == 200

    for each in half_heads:
        with closing(each):
            assert each.recv(1000) == b""  # let go without a word
    for each in half_bodies:
        with closing(each):
            assert each.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 60
    assert requests.get(f"{installation.url}/executions/").json() == []


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 100000000\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"X-Long: " + b"x" * 1_000_000,
    ],
    ids=["announced", "in chunks", "header"],
)
def test_what_is_too_large_is_refused_while_it_comes(installation, head):
    installation.start_server()
    sent = 0
    with closing(connect(installation, head)) as connection:
        try:
            while sent < 100_000_000:
                chunk = b"x" * 65536
                connection.sendall(b"10000\r\n" + chunk + b"\r\n")
                sent += len(chunk)
        except OSError:
            pass  # it has been cut off
    assert sent < 20_000_000
    assert requests.get(f"{installation.url}/executions/").json() == []


def test_a_session_is_of_no_use_to_a_form_without_its_token(db):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("ada", "operator"))
    execution = start_execution(project_id="p", bead_id="b")

    for path in ("/admin/executions/execution/", f"/executions/{execution.pk}/cancel"):
        data = {"action": "cancel", "_selected_action": [execution.pk]}
        assert client.post(path, data).status_code in (403, 415)
    execution.refresh_from_db()
    assert execution.status == "pending"
