"""Tokens: made, used, seen, ended, and kept nowhere."""

import datetime
import re

import pytest
import requests
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from executions.models import ApiToken
from executions.tests.helpers import make_user
from executions.tokens import create_token

DAY = datetime.timedelta(days=1)


@pytest.fixture
def viewer(db):
    return make_user("ada", "viewer")


def get(secret, keyword="Token"):
    return APIClient().get("/executions/", headers={"Authorization": f"{keyword} {secret}"})


def test_a_token_has_the_rights_of_its_user(viewer):
    _, secret = create_token(user=viewer, name="laptop", expires_at=None)

    assert get(secret).status_code == 200
    assert get(secret, keyword="token").status_code == 200
    post = APIClient().post("/executions/", headers={"Authorization": f"Token {secret}"})
    assert post.status_code == 403


def test_a_user_may_have_several(viewer):
    secrets = [create_token(user=viewer, name="ci", expires_at=None)[1] for _ in range(3)]

    assert len(set(secrets)) == 3
    assert [get(each).status_code for each in secrets] == [200, 200, 200]


@pytest.mark.parametrize(
    "header",
    [
        "Token",
        "Token ",
        "Token x",
        "Token a b",
        "Token \x80",
        "Token é",
        "Bearer x",
        "",
        "Token " + "x" * 9999,
    ],
)
def test_what_is_no_token_is_refused_also_with_open_access(api, header):
    response = api.get("/executions/", headers={"Authorization": header})

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Token"
    assert response.json() == {"detail": "Invalid token."}


def test_a_token_ends_when_it_expires(viewer):
    now = timezone.now()
    _, over = create_token(user=viewer, name="over", expires_at=now)
    _, to_come = create_token(user=viewer, name="to come", expires_at=now + DAY)

    assert get(over).status_code == 401
    assert get(to_come).status_code == 200


def test_a_token_ends_when_it_is_revoked_or_its_user_inactive(viewer):
    token, secret = create_token(user=viewer, name="a", expires_at=None)
    _, other = create_token(user=viewer, name="b", expires_at=None)

    token.delete()
    assert get(secret).status_code == 401
    assert get(other).status_code == 200
    viewer.is_active = False
    viewer.save()
    assert get(other).status_code == 401


def test_the_last_use_is_kept_to_the_minute(viewer, django_assert_num_queries):
    token, secret = create_token(user=viewer, name="a", expires_at=None)
    assert token.last_used_at is None

    get(secret)
    token.refresh_from_db()
    first = token.last_used_at
    assert timezone.now() - first < DAY

    with django_assert_num_queries(2):  # the token with its user's rights, and the list
        get(secret)
    token.refresh_from_db()
    assert token.last_used_at == first

    ApiToken.objects.update(last_used_at=first - datetime.timedelta(seconds=61))
    get(secret)
    token.refresh_from_db()
    assert token.last_used_at > first


def test_a_command_makes_one_and_prints_it_once(viewer, capsys):
    call_command("create_token", "ada", "--name", "the laptop", "--expires", "12h")
    secret = capsys.readouterr().out.strip()

    token = ApiToken.objects.get()
    assert get(secret).status_code == 200
    assert (token.user, token.name) == (viewer, "the laptop")
    expected = timezone.now() + datetime.timedelta(hours=12)
    assert abs(token.expires_at - expected) < datetime.timedelta(minutes=1)


def test_a_token_of_the_command_expires_unless_it_is_told_not_to(viewer):
    call_command("create_token", "ada")
    call_command("create_token", "ada", "--expires", "never")

    expires_at = ApiToken.objects.order_by("pk").values_list("expires_at", flat=True)
    assert expires_at[0] - timezone.now() < 90 * DAY
    assert expires_at[1] is None


@pytest.mark.parametrize("arguments", [["nobody"], ["ada", "--expires", "soon"], []])
def test_the_command_names_what_is_wrong(viewer, arguments):
    with pytest.raises(CommandError):
        call_command("create_token", *arguments)
    assert not ApiToken.objects.exists()


ADMIN = "/admin/executions/apitoken/"


def make_in_admin(client, **fields):
    fields = {"name": "laptop", "expires_at_0": "2100-01-01", "expires_at_1": "00:00"} | fields
    page = client.post(f"{ADMIN}add/", fields)
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    return re.search('<pre id="secret">(.+)</pre>', page.content.decode())[1]


def test_the_admin_makes_one_shows_it_once_and_revokes_it(admin_client, viewer):
    secret = make_in_admin(admin_client, user=viewer.pk)
    token = ApiToken.objects.get()
    assert token.user == viewer
    assert get(secret).status_code == 200

    for page in (ADMIN, f"{ADMIN}{token.pk}/change/", "/admin/"):
        content = admin_client.get(page).content.decode()
        assert secret not in content
        assert token.digest not in content
    assert "laptop" in admin_client.get(ADMIN).content.decode()

    admin_client.post(f"{ADMIN}{token.pk}/delete/", {"post": "yes"})
    assert get(secret).status_code == 401


def test_an_operator_makes_and_sees_only_their_own(client, viewer, admin_user):
    others, _ = create_token(user=admin_user, name="root's", expires_at=None)
    operator = make_user("eve", "operator")
    client.force_login(operator)

    make_in_admin(client, user=admin_user.pk)

    assert ApiToken.objects.get(name="laptop").user == operator
    page = client.get(ADMIN)
    assert [each.user for each in page.context["cl"].result_list] == [operator]
    client.post(f"{ADMIN}{others.pk}/delete/", {"post": "yes"})
    assert ApiToken.objects.filter(pk=others.pk).exists()


def test_the_schema_asks_for_a_token(client):
    schema = client.get("/openapi.json").json()

    scheme = schema["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Authorization")
    assert "Token" in scheme["description"]
    for calls in schema["paths"].values():
        for call in calls.values():
            assert {"token": []} in call["security"]


def test_a_token_is_nowhere_in_the_files_and_the_database_of_the_service(installation):
    """Made by the command and in the admin, and used: not one of its halves is kept."""
    installation.manage("shell", "-v0", "-c", MAKE_ADMIN)
    secret = installation.manage("create_token", "root").strip()
    installation.start_server(OPEN_ACCESS="off")
    session = requests.Session()
    login = f"{installation.url}/admin/login/"
    session.get(login)
    session.post(
        login,
        {
            "username": "root",
            "password": "correct horse",
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
        },
    )
    page = session.get(f"{installation.url}{ADMIN}add/").text
    fields = {
        "user": re.search('<option value="([0-9]+)" selected>', page)[1],
        "name": "second",
        "csrfmiddlewaretoken": re.search('csrfmiddlewaretoken" value="(.+?)"', page)[1],
    }
    page = session.post(f"{installation.url}{ADMIN}add/", fields).text
    second = re.search('<pre id="secret">(.+)</pre>', page)[1]

    for each in (secret, second):
        answer = requests.get(
            f"{installation.url}/executions/", headers={"Authorization": f"Token {each}"}
        )
        assert answer.status_code == 200

    files = [path for path in installation.data_dir.rglob("*") if path.is_file()]
    kept = installation.database.dump() + b"".join(path.read_bytes() for path in files)
    assert b"second" in kept  # its name is, so the right files were searched
    for each in (secret, second):
        random = each.removeprefix("executions_").encode()
        assert random[:12] not in kept
        assert random[-12:] not in kept


MAKE_ADMIN = """
from django.contrib.auth.models import User
User.objects.create_superuser("root", password="correct horse")
"""


def test_a_stream_ends_when_its_token_is_revoked(installation):
    installation.manage("shell", "-v0", "-c", MAKE_ADMIN)
    headers = {"Authorization": f"Token {installation.manage('create_token', 'root').strip()}"}
    installation.start_server(OPEN_ACCESS="off")
    url = f"{installation.url}/executions/"
    body = {"project_id": "p", "bead_id": "b"}
    execution = requests.post(url, json=body, headers=headers).json()
    url += f"{execution['id']}/output"
    accept = {"Accept": "text/event-stream"}
    with requests.get(url, headers=headers | accept, stream=True, timeout=30) as stream:
        lines = stream.iter_lines(chunk_size=1)
        assert next(lines) == b"event: status"
        revoke = "from executions.models import ApiToken; ApiToken.objects.all().delete()"
        installation.manage("shell", "-v0", "-c", revoke)
        assert b"event: end" not in list(lines)  # it ends, though the execution does not
    assert requests.get(url, headers=headers).status_code == 401
