"""Who may do what: every call, by every role, on what is theirs, others' and out of their reach."""

import json

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from executions import services
from executions.models import Execution, ProjectLimit
from executions.tests.helpers import make_user
from executions.tokens import create_token
from executions.urls import router

ROLES = ["nobody", "no role", "viewer", "starter", "operator", "superuser"]

# What is called on: an execution (or, to start one, a project) …
OWN = "own"
OTHERS = "another's"
BEYOND = "beyond"  # … of a project that is not given to the caller

# fmt: off
MATRIX = {
    #                                    nobody no role viewer starter operator superuser
    ("GET", "api-root", ""):                [401, 403, 200, 200, 200, 200],
    ("OPTIONS", "execution-list", ""):      [401, 403, 200, 200, 200, 200],
    ("PUT", "execution-list", ""):          [401, 403, 405, 405, 405, 405],
    ("GET", "execution-list", ""):          [401, 403, 200, 200, 200, 200],
    ("POST", "execution-list", OWN):        [401, 403, 403, 201, 201, 201],
    ("POST", "execution-list", BEYOND):     [401, 403, 403, 403, 403, 201],
    ("GET", "execution-detail", OWN):       [401, 403, 200, 200, 200, 200],
    ("GET", "execution-detail", OTHERS):    [401, 403, 200, 200, 200, 200],
    ("GET", "execution-detail", BEYOND):    [401, 403, 404, 404, 404, 200],
    ("GET", "execution-output", OWN):       [401, 403, 200, 200, 200, 200],
    ("GET", "execution-output", OTHERS):    [401, 403, 200, 200, 200, 200],
    ("GET", "execution-output", BEYOND):    [401, 403, 404, 404, 404, 200],
    ("GET", "execution-watch", OWN):        [401, 403, 200, 200, 200, 200],
    ("GET", "execution-watch", OTHERS):     [401, 403, 200, 200, 200, 200],
    ("GET", "execution-watch", BEYOND):     [401, 403, 404, 404, 404, 200],
    ("POST", "execution-cancel", OWN):      [401, 403, 403, 200, 200, 200],
    ("POST", "execution-cancel", OTHERS):   [401, 403, 403, 403, 200, 200],
    ("POST", "execution-cancel", BEYOND):   [401, 403, 403, 404, 404, 200],
    ("POST", "execution-retry", OWN):       [401, 403, 403, 201, 201, 201],
    ("POST", "execution-retry", OTHERS):    [401, 403, 403, 403, 201, 201],
    ("POST", "execution-retry", BEYOND):    [401, 403, 403, 404, 404, 201],
}
# fmt: on


def routed_calls():
    """Method and name of every call that the router answers."""
    for pattern in router.urls:
        for method in getattr(pattern.callback, "actions", None) or {"get": None}:
            if method != "head":  # answered by GET
                yield method.upper(), pattern.name


def test_every_call_is_in_the_matrix():
    in_matrix = {}
    for method, name, on in MATRIX:
        in_matrix.setdefault((method, name), set()).add(on)

    for call in routed_calls():
        assert call in in_matrix
        if call[1] not in ("api-root", "execution-list"):
            assert in_matrix[call] == {OWN, OTHERS, BEYOND}


def make_caller(role):
    if role == "nobody":
        return None
    roles = [] if role in ("no role", "superuser") else [role]
    return make_user("ada", *roles, projects=["shop"], is_superuser=role == "superuser")


def with_token(user):
    client = APIClient()
    if user is not None:
        _, secret = create_token(user=user, name="test", expires_at=None)
        client.credentials(HTTP_AUTHORIZATION=f"Token {secret}")
    return client


def with_session(user):
    client = APIClient()
    if user is not None:
        client.force_login(user)
    return client


def execution_on(on, caller):
    execution = services.start_execution(
        project_id="secret" if on == BEYOND else "shop",
        bead_id="b",
        requested_by=caller if on == OWN else make_user("bob"),
    )
    return services.cancel_execution(execution)  # so that it can be retried, and cancelled again


def call(client, method, name, on, caller):
    if name in ("api-root", "execution-list"):
        body = json.dumps({"project_id": "secret" if on == BEYOND else "shop", "bead_id": "b"})
        return client.generic(method, reverse(name), body, content_type="application/json")
    return client.generic(method, reverse(name, args=[execution_on(on, caller).pk]))


@pytest.mark.parametrize("connect", [with_token, with_session])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "name", "on"), MATRIX)
def test_a_call_is_answered_as_the_role_says(db, method, name, on, role, connect):
    caller = make_caller(role)
    response = call(connect(caller), method, name, on, caller)

    expected = MATRIX[method, name, on][ROLES.index(role)]
    assert response.status_code == expected
    if expected in (401, 403, 404):
        assert list(response.json()) == ["detail"]
    if expected == 401:
        assert response["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(("method", "name", "on"), MATRIX)
def test_with_open_access_nobody_in_particular_may_call_everything(api, method, name, on):
    assert call(api, method, name, on, None).status_code in (200, 201, 405)


def test_what_is_beyond_reach_looks_as_if_it_were_not_there(db):
    """Also to those who guess an id: not one byte differs."""
    client = with_token(make_caller("starter"))
    hidden = execution_on(BEYOND, None)
    missing = "01a204e9-82c4-73ea-8b12-b77399aed641"

    for path in ("", "/output", "/watch", "/output?offset=0&wait=1"):
        for accept in ("application/json", "text/event-stream", "text/html"):
            answers = [
                client.get(f"/executions/{each}{path}", headers={"Accept": accept})
                for each in (hidden.pk, missing)
            ]
            assert answers[0].status_code == answers[1].status_code
            assert answers[0].status_code in (404, 406)
            pages = [each.content.decode().replace(str(hidden.pk), missing) for each in answers]
            assert without_csrf_token(pages[0]) == without_csrf_token(pages[1])


def without_csrf_token(page):
    return [line for line in page.splitlines() if "csrf" not in line.lower()]


@pytest.fixture
def many():
    """Executions of three projects, in turns, oldest first."""
    return [
        services.start_execution(project_id=f"p{number % 3}", bead_id=str(number))
        for number in range(12)
    ]


@pytest.mark.parametrize("status", [[], ["pending"], ["pending", "failed"]])
def test_lists_hold_what_is_within_reach_page_by_page(db, many, status):
    client = with_token(make_user("ada", "viewer", projects=["p0", "p2", "empty"]))
    expected = [str(each.pk) for each in reversed(many) if each.project_id != "p1"]

    seen = []
    response = client.get("/executions/", {"limit": 3, "status": status})
    while True:
        seen += [each["id"] for each in response.json()]
        if 'rel="next"' not in response.get("Link", ""):
            break
        response = client.get(response["Link"].split(">")[0].strip("<"))

    assert seen == expected


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_filter_by_a_project_beyond_reach_finds_nothing(db, many, accept):
    client = with_token(make_user("ada", "viewer", projects=["p0"]))

    def count(project):
        query = {"project_id": project}
        page = client.get("/executions/", query, headers={"Accept": accept})
        return page.content.decode().count("bead_id")

    form = count("none at all")  # the browsable API's form may have one of its own
    assert count("p1") == form
    assert count("p0") > form


def test_limits_of_a_user_and_their_groups_add_up(db, many):
    user = make_user("ada", "viewer", projects=["p0"])
    group = user.groups.get()
    ProjectLimit.objects.create(group=group, projects=["p1"])
    assert projects_seen(user) == {"p0", "p1"}

    ProjectLimit.objects.all().update(projects=[])
    assert projects_seen(user) == set()

    ProjectLimit.objects.all().delete()
    assert projects_seen(user) == {"p0", "p1", "p2"}


def projects_seen(user):
    return {each["project_id"] for each in with_token(user).get("/executions/").json()}


def test_more_projects_than_a_union_takes_are_listed_too(db, many):
    user = make_user("ada", "viewer", projects=["p0", *(f"q{number}" for number in range(600))])

    assert projects_seen(user) == {"p0"}


def test_a_role_that_is_taken_away_is_gone_at_the_next_call(db):
    user = make_user("ada", "starter")
    client = with_token(user)
    assert client.get("/executions/").status_code == 200

    user.groups.clear()
    assert client.get("/executions/").status_code == 403
    user.is_active = False
    user.save()
    assert client.get("/executions/").status_code == 401


ADMIN_LIST = "/admin/executions/execution/"


def test_the_admin_is_open_to_operators_and_shows_their_projects_only(db, many):
    client = with_session(make_user("ada", "operator", projects=["p0"]))

    page = client.get(ADMIN_LIST)
    assert {each.project_id for each in page.context["cl"].result_list} == {"p0"}
    assert client.get(f"{ADMIN_LIST}?q=p1").context["cl"].result_list == []
    assert client.get(f"{ADMIN_LIST}{many[1].pk}/change/").status_code == 302  # as if not there
    assert client.get(f"{ADMIN_LIST}{many[0].pk}/change/").status_code == 200
    selected = {"action": "cancel", "_selected_action": [many[0].pk, many[1].pk]}
    client.post(ADMIN_LIST, selected, format="multipart")
    assert [each.bead_id for each in Execution.objects.filter(status="cancelled")] == ["0"]


@pytest.mark.parametrize("role", ["viewer", "starter"])
def test_the_admin_is_closed_to_the_other_roles(db, role):
    response = with_session(make_user("ada", role)).get(ADMIN_LIST)

    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_an_operator_can_not_make_themselves_more_than_that(db):
    client = with_session(make_user("ada", "operator", projects=["p0"]))

    for path in ("auth/user/", "auth/group/", "executions/projectlimit/"):
        assert client.get(f"/admin/{path}").status_code == 403
        assert client.get(f"/admin/{path}add/").status_code == 403


def test_a_superuser_limits_a_user_in_the_admin(admin_client, db, many):
    user = make_user("ada", "viewer")
    url = "/admin/executions/projectlimit/"

    page = admin_client.post(f"{url}add/", {"user": user.pk, "projects": " p0\n\np2\r\np0 "})
    assert page.status_code == 302
    assert projects_seen(user) == {"p0", "p2"}
    assert "p0, p2" in admin_client.get(url).content.decode()

    neither = admin_client.post(f"{url}add/", {"projects": "p1"})
    assert "Choose a user or a group." in neither.content.decode()


def test_a_group_with_a_limit_can_not_be_deleted_and_so_lift_it(admin_client, db):
    user = make_user("ada", "viewer")
    group = user.groups.get()
    ProjectLimit.objects.create(group=group, projects=["p0"])

    admin_client.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"})

    assert user.groups.exists()
