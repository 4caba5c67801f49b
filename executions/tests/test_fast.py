"""What is answered without Django's machinery is what the ViewSet answers, or is left to it."""

import datetime
import json

import pytest
from django.test import RequestFactory
from django.utils import timezone

from config.wsgi import Utf8Request
from executions import claims
from executions.fast.calls import FastCalls
from executions.fast.reader import Reader
from executions.models import ApiToken, Execution
from executions.services import (
    cancel_execution,
    get_execution,
    retry_execution,
    start_execution,
)
from executions.tests.helpers import make_user, write_output
from executions.tokens import create_token

STRANGE = 'é "quoted" \\ / \b\f\n\r\t\x01\x1f\x7f\u2028\u2029 😀 {"id":"x"} %s %%'


class ReaderHere(Reader):
    """Sees what the test has not committed."""

    waits = False


def fast(path, **headers):
    """The fast answer to a GET, or None where there is none."""
    environ = RequestFactory(headers=headers).get(path).environ
    if not environ["HTTP_COOKIE"]:
        del environ["HTTP_COOKIE"]  # as the factory has it of those who send none
    request = Utf8Request(environ)
    calls = FastCalls(get_response=None)
    calls._reader = ReaderHere()
    calls._usual_headers = {"http": []}
    try:
        calls.answer(request, b"").send(None)  # it has nothing to wait for
    except StopIteration as done:
        return done.value


def assert_same(answer, response):
    """To the last member, in the same order, and with the headers that are the call's own."""
    assert (answer.status, response.status_code) == (200, 200)
    found, expected = (
        json.loads(each, object_pairs_hook=list)
        for each in (answer.content, response.content.decode())
    )
    assert found == expected
    own = {name.lower() for name in ("Vary", "Allow", "Link")}
    theirs = {name.lower(): value for name, value in response.items()}
    assert dict(answer.headers) == {name: theirs[name] for name in own & set(theirs)}


@pytest.fixture
def many(api):
    """One or more of every kind, with everything in them that could be written differently."""
    user = make_user('ada "é"')
    for number in range(8):
        start_execution(
            project_id=f"p{number % 2}",
            bead_id=STRANGE.replace("\x01", ""),
            context=[None, "", STRANGE][number % 3],
            requested_by=user if number % 2 else None,
        )
    for exit_code in (0, 7):
        [(execution, token)] = claims.claim_executions(worker='w "é"', limit=1, lease=30)
        write_output(execution, token, b"a\xff\0\n" + "é\u2028".encode())
        claims.finish_execution(execution.pk, token=token, exit_code=exit_code)
        retry_execution(get_execution(execution.pk), requested_by=user)
    claims.claim_executions(worker="w", limit=1, lease=30)
    [running] = Execution.objects.running()
    cancel_execution(running)
    cancel_execution(Execution.objects.pending().first())
    # A moment without a fraction of a second is written without one.
    moment = timezone.now().replace(microsecond=0)
    first = Execution.objects.order_by("id").first()
    Execution.objects.filter(pk=first.pk).update(started_at=moment, running_at=moment)
    return list(Execution.objects.newest_first())


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_detail_is_the_view_sets(many, api, slash):
    assert {each.status for each in many} == set(Execution.Status)
    for each in many:
        path = f"/executions/{each.pk}{slash}"
        assert_same(fast(path), api.get(path))


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("character", ["x", "é", "\0", "😀"])
@pytest.mark.parametrize("has_ended", [False, True])
def test_the_end_of_an_output_is_the_view_sets(api, claimed, size, character, has_ended):
    execution, token = claimed
    write_output(execution, token, (character * size).encode()[:size], left_out=size // 1000)
    if has_ended:
        claims.finish_execution(execution.pk, token=token, exit_code=0)

    path = f"/executions/{execution.pk}"
    assert_same(fast(path), api.get(path))


QUERIES = [
    "",
    "?limit=3",
    "?limit=1",
    "?limit=100",
    "?project_id=p1",
    "?project_id=p1&limit=2",
    "?project_id=nowhere",
    "?status=pending",
    "?status=completed&project_id=p0",
    "?status=failed",
    "?bead_id=nothing",
    "?bead_id=%C3%A9&limit=2",
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", ["/executions", "/executions/"])
def test_a_list_is_the_view_sets(many, api, path, query):
    assert_same(fast(path + query), api.get(path + query))


@pytest.mark.parametrize("query", ["?limit=3", "?limit=2&project_id=p0", "?limit=1&status=pending"])
def test_pages_are_the_view_sets_in_both_directions(many, api, query):
    urls, seen = [f"/executions/{query}"], 0
    visited = set()
    while urls:
        url = urls.pop()
        if url in visited:
            continue
        visited.add(url)
        answer, response = fast(url), api.get(url)
        assert_same(answer, response)
        seen += 1
        urls += [part.split(">")[0] for part in response.get("Link", "").split("<")[1:]]
    assert seen >= 4


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/executions/x",
        "/executions/01A204E9-82C4-73EA-8B12-B77399AED641",  # by another spelling
        "/executions/01a204e9-82c4-73ea-8b12-b77399aed641",  # there is none
        "/executions/?status=pending&status=failed",
        "/executions/?started_after=2026-01-01T00:00:00Z",
        "/executions/?limit=101",
        "/executions/?limit=0",
        "/executions/?limit=1&limit=1",
        "/executions/?cursor=x",
        "/executions/?project_id=",
        "/executions/?project_id=a%00",
        "/executions/?status=done",
        "/executions/?format=json",
        "/executions/?format=api",
        "/executions/?unknown=1",
        "/executions/?bead_id=b&status=pending",
        "/executions/?bead_id=b&project_id=p0",
        "/executions//",
        "/executions/01a204e9-82c4-73ea-8b12-b77399aed641/output",
    ],
)
def test_what_is_not_plain_is_left_to_the_view_set(many, path):
    assert fast(path) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "text/html"},
        {"Accept": "application/xml"},
        {"Accept": "text/html, application/json;q=0.9"},
        {"Cookie": "sessionid=x"},
        {"Authorization": ""},
        {"Authorization": "Token x"},
        {"Authorization": "Basic x"},
    ],
)
def test_whoever_is_not_a_plain_program_is_left_to_the_view_set(many, headers):
    assert fast("/executions/", **headers) is None
    assert fast(f"/executions/{many[0].pk}", **headers) is None


def test_a_query_of_a_detail_is_left_to_the_view_set(many):
    assert fast(f"/executions/{many[0].pk}?x=1") is None


# Who


def token_of(user, **changes):
    """A token whose use was noted just now."""
    token, secret = create_token(user=user, name="t", expires_at=None)
    changes = {"last_used_at": timezone.now()} | changes
    ApiToken.objects.filter(pk=token.pk).update(**changes)
    return {"Authorization": f"Token {secret}"}


@pytest.mark.parametrize("role", ["viewer", "starter", "operator"])
def test_a_token_gets_what_the_view_set_gives_it(many, api, settings, role):
    settings.OPEN_ACCESS = False
    headers = token_of(make_user(role, role))
    for path in ("/executions/", f"/executions/{many[0].pk}"):
        response = api.get(path, headers=headers)
        assert_same(fast(path, **headers), response)


def test_nobody_in_particular_is_left_to_the_view_set_without_open_access(many, settings):
    settings.OPEN_ACCESS = False

    assert fast("/executions/") is None
    assert fast(f"/executions/{many[0].pk}") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"last_used_at": None},
        {"last_used_at": timezone.now() - datetime.timedelta(seconds=61)},
        {"expires_at": timezone.now()},
    ],
)
def test_a_use_that_is_to_be_noted_and_an_expired_token_are_left_to_the_view_set(many, changes):
    assert fast("/executions/", **token_of(make_user("v", "viewer"), **changes)) is None


def test_a_role_that_may_not_view_and_other_projects_are_left_to_the_view_set(many):
    assert fast("/executions/", **token_of(make_user("nobody"))) is None
    limited = token_of(make_user("ada", "viewer", projects=["p1"]))
    assert fast("/executions/", **limited) is None
    assert fast("/executions/?project_id=p0", **limited) is None
    assert fast("/executions/?project_id=p1", **limited) is not None
    for each in many:
        seen = fast(f"/executions/{each.pk}", **limited)
        assert (seen is not None) == (each.project_id == "p1")
