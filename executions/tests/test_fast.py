"""What is answered without Django's machinery is what the ViewSet answers, or is left to it."""

import asyncio
import datetime
import json
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.db import IntegrityError, InterfaceError, OperationalError, connection
from django.test import RequestFactory
from django.utils import timezone

from config.wsgi import Utf8Request
from executions import claims, documents, services
from executions.exceptions import DatabaseUnavailable
from executions.fast.answers import Unusual
from executions.fast.calls import FastCalls
from executions.fast.reader import Reader
from executions.fast.starts import Wish, answer_to, fulfil, is_surely_valid
from executions.models import ApiToken, Execution
from executions.serializers import (
    CONTEXT_BYTES,
    MAX_TIMEOUT,
    ExecutionCreateSerializer,
    ExecutionSerializer,
)
from executions.services import (
    cancel_execution,
    get_execution,
    retry_execution,
    start_execution,
)
from executions.tests.helpers import make_user, write_output
from executions.tests.installation import wait_for
from executions.tests.test_create import BAD_FIELDS
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


# Starting


def test_a_new_execution_is_described_as_the_serializer_does(db):
    for user, context in ((None, None), (make_user("é"), STRANGE)):
        made = start_execution(project_id="p", bead_id="é", context=context, requested_by=user)
        serialized = json.loads(json.dumps(ExecutionSerializer(made).data))

        assert json.loads(documents.describe(made)) == serialized
        assert list(json.loads(documents.describe(made))) == list(serialized)


GOOD = {"project_id": "p", "bead_id": "b"}


@pytest.mark.parametrize(
    "fields",
    [
        GOOD,
        GOOD | {"project_id": " é 😀 "},
        GOOD | {"bead_id": "x" * 255},
        GOOD | {"context": None, "timeout": None},
        GOOD | {"context": ""},
        GOOD | {"context": STRANGE},
        GOOD | {"context": "é" * (CONTEXT_BYTES // 2)},
        GOOD | {"timeout": 1},
        GOOD | {"timeout": MAX_TIMEOUT},
    ],
)
def test_what_is_surely_valid_the_serializer_takes_as_it_is(fields):
    assert is_surely_valid(fields)
    assert ExecutionCreateSerializer().run_validation(fields) == fields


DOUBTFUL: list[Any] = [
    [],
    None,
    "text",
    GOOD | {"context": 7},
    GOOD | {"context": [""]},
    GOOD | {"context": {}},
    GOOD | {"context": "é" * (CONTEXT_BYTES // 2 + 1)},
    GOOD | {"timeout": 9.0},
    GOOD | {"timeout": MAX_TIMEOUT + 1},
    GOOD | {"project_id": "a\u200bb"},
]


@pytest.mark.parametrize("fields", DOUBTFUL + [fields for fields, _ in BAD_FIELDS])
def test_what_the_serializer_may_refuse_is_left_to_it(fields):
    assert not is_surely_valid(fields)


def wish_of(user=None):
    return Wish(None, user, GOOD, "http://testserver", asyncio.Future(loop=LOOP), copy_context())


LOOP = asyncio.new_event_loop()  # for futures that nobody waits for


@pytest.mark.django_db(transaction=True)
def test_a_group_in_which_one_can_not_be_accepted_is_left_to_the_view_set():
    gone = make_user("gone")
    User.objects.filter(pk=gone.pk).delete()
    group = [wish_of(), wish_of(gone), wish_of()]

    fulfil(group)

    assert [type(wish.outcome) for wish in group] == [Unusual] * 3
    assert not Execution.objects.exists()
    fulfil([group[0], group[2]])
    assert {wish.outcome.pk for wish in group[::2]} == set(Execution.objects.in_bulk())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OperationalError("locked"), DatabaseUnavailable),
        (InterfaceError("no connection"), DatabaseUnavailable),
        (IntegrityError("no such user"), Unusual),
        (RuntimeError("a bug"), Unusual),
    ],
)
def test_what_goes_wrong_is_logged_and_leaves_nobody_waiting(monkeypatch, caplog, error, outcome):
    def fail(executions):
        raise error

    monkeypatch.setattr(services, "accept_executions", fail)
    wish = wish_of()

    fulfil([wish])

    assert type(wish.outcome) is outcome
    assert str(error) in caplog.text


def test_who_has_gone_holds_up_nobody_else():
    gone, waiting = wish_of(), wish_of()
    gone.answer.cancel()
    for wish in (gone, waiting):
        answer_to(wish)
    assert isinstance(waiting.answer.exception(), Unusual)


@pytest.mark.django_db(transaction=True)
def test_groups_of_the_same_users_do_not_wait_for_each_other():
    users = [make_user(f"u{number}") for number in range(8)]

    def start(order):
        groups = [[wish_of(user) for user in users[::order]] for _ in range(20)]
        for group in groups:
            fulfil(group)
        connection.close()
        return [type(wish.outcome) for group in groups for wish in group]

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(start, (1, -1)))
    assert both == [[Execution] * 160] * 2


# With the real server: its event loop, its threads, and who writes meanwhile.

# The same to DRF, but nothing that a program says: so the ViewSet answers.
SLOWLY = {"Accept": "application/json; indent=0"}
PASSING = {"date", "x-request-id", "content-length"}


def both_ways(url, **headers):
    """A GET answered fast, and by the ViewSet."""
    for accept in ({}, SLOWLY):
        answer = requests.get(url, headers=headers | accept, timeout=30)
        own = {k.lower(): v for k, v in answer.headers.items() if k.lower() not in PASSING}
        policy = own["content-security-policy"]
        own["content-security-policy"] = sorted(policy.split("; "))  # in any order
        yield answer.status_code, json.loads(answer.text, object_pairs_hook=list), own


@pytest.fixture
def served(installation):
    installation.start_server()
    return installation


def test_both_ways_of_the_server_answer_the_same(served):
    made = [served.post(f"p{number % 2}", context=STRANGE) for number in range(5)]
    urls = [f"{served.url}/executions/{made[0]['id']}"]
    urls += [f"{served.url}/executions{query}" for query in ("", "/?limit=2", "?project_id=p1")]

    for url in urls:
        fast_answer, slow_answer = both_ways(url)
        assert fast_answer[0] == 200
        slow_answer[2]["content-type"] = slow_answer[2]["content-type"].split(";")[0]
        assert fast_answer == slow_answer


@pytest.mark.parametrize("name", ["x", "%E7%A6%85", "%FF", "%00", "a%2Fb"])
def test_what_is_left_to_the_view_set_reaches_it_as_it_was(served, name):
    for method, path in (("GET", name), ("POST", f"{name}/cancel")):
        answer = requests.request(method, f"{served.url}/executions/{path}", timeout=30)
        assert answer.status_code == 404
        assert answer.json()["detail"] in ("Execution not found", "Not found.")


def test_a_post_is_answered_the_same_both_ways(served):
    body = {"project_id": "é", "bead_id": "b", "context": STRANGE, "timeout": 9}
    answers = [
        requests.post(f"{served.url}/executions/", json=body, headers=headers, timeout=30)
        for headers in ({}, {"Idempotency-Key": "1"})
    ]
    for each in answers:
        assert each.status_code == 201
        assert each.headers["Location"] == f"{served.url}/executions/{each.json()['id']}"
        assert requests.get(each.headers["Location"], timeout=30).json() == each.json()
    first, second = (list(each.json().items()) for each in answers)
    assert [item for item in first if item[0] not in ("id", "started_at")] == [
        item for item in second if item[0] not in ("id", "started_at")
    ]
    first, second = (set(each.headers) - {"Idempotent-Replayed"} for each in answers)
    assert first == second


def test_a_token_is_answered_the_same_both_ways(installation):
    secret = secret_of(installation, "viewer", projects=["p1"])
    installation.start_server(OPEN_ACCESS="off")
    create = "from executions.services import start_execution as start\n"
    create += "for n in range(4): print(start(project_id=f'p{n % 2}', bead_id='b').pk)"
    ids = installation.manage("shell", "-v0", "-c", create).split()
    url = f"{installation.url}/executions"
    headers = {"Authorization": f"Token {secret}"}
    requests.get(url, headers=headers, timeout=30)  # which notes the use

    for path, status in (
        ("/?project_id=p1", 200),
        ("/?project_id=p0", 200),
        ("/", 200),
        (f"/{ids[1]}", 200),
        (f"/{ids[0]}", 404),
        (f"/{ids[1]}?format=json", 200),
    ):
        fast_answer, slow_answer = both_ways(url + path, **headers)
        assert fast_answer[0] == status
        for each in (fast_answer, slow_answer):
            each[2]["content-type"] = each[2]["content-type"].split(";")[0]
        assert fast_answer == slow_answer


def test_the_query_of_a_post_is_left_to_the_view_set(served):
    answer = requests.post(f"{served.url}/executions/?format=xml", json=GOOD, timeout=30)
    assert answer.status_code == 404
    assert served.database.query("SELECT count(*) FROM executions_execution") == [(0,)]


def test_nobody_is_shown_what_was(served):
    """Each list has what was just accepted, however often the same was asked before."""
    url = f"{served.url}/executions/?project_id=p"
    for number in range(50):
        made = served.post("p", f"b{number}")
        for _ in range(2):
            assert requests.get(url, timeout=30).json()[0]["id"] == made["id"]


def test_many_at_once_are_each_answered_with_their_own(served):
    def post(number):
        good = {"project_id": f"p{number}", "bead_id": "b"}
        body = good if number % 5 else {"project_id": "p"}
        answer = requests.post(f"{served.url}/executions/", json=body, timeout=60)
        assert answer.status_code == (201 if number % 5 else 400)
        return answer.json().get("project_id") if number % 5 else f"p{number}"

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(post, range(300))) == [f"p{number}" for number in range(300)]
    assert served.database.query("SELECT count(*) FROM executions_execution") == [(240,)]


def test_a_foreign_page_starts_nothing(served):
    answers = [
        requests.post(f"{served.url}/executions/", json=GOOD, headers={"Origin": origin})
        for origin in ("http://evil.example", "null", served.url)
    ]
    assert [each.status_code for each in answers] == [403, 403, 201]
    assert served.database.query("SELECT count(*) FROM executions_execution") == [(1,)]


def secret_of(installation, role, *, projects=None, seconds=3600):
    """The token of a new user, which holds for so many seconds."""
    return installation.manage(
        "shell",
        "-v0",
        "-c",
        f"""
import datetime
from django.utils import timezone
from executions.tests.helpers import make_user
from executions.tokens import create_token
user = make_user("ada", {role!r}, projects={projects!r})
expires_at = timezone.now() + datetime.timedelta(seconds={seconds})
print(create_token(user=user, name="t", expires_at=expires_at)[1])
""",
    ).strip()


def test_a_start_is_logged_and_limited_as_the_view_set_s(installation):
    secret = secret_of(installation, "starter", projects=["mine"])
    installation.start_server(OPEN_ACCESS="off")

    def post(project_id):
        headers = {"Authorization": f"Token {secret}", "X-Request-ID": f"in-{project_id}"}
        body = GOOD | {"project_id": project_id}
        return requests.post(f"{installation.url}/executions/", json=body, headers=headers)

    assert post("mine").status_code == 201  # which notes the use, so that the next one is fast
    made = post("mine")
    assert made.json()["requested_by"] == "ada"
    assert post("others").status_code == 403

    lines = [json.loads(line) for line in installation.printed.splitlines() if "create" in line]
    facts = [(line["status"], line["user"], line["request_id"]) for line in lines]
    assert facts == [(201, "ada", "in-mine")] * 2 + [(403, "ada", "in-others")]
    assert lines[1]["made"] == made.json()["id"]
    assert lines[0].keys() == lines[1].keys()


def test_a_token_that_is_revoked_is_refused_at_the_next_call(installation):
    secret = secret_of(installation, "viewer")
    installation.start_server(OPEN_ACCESS="off")

    def get():
        headers = {"Authorization": f"Token {secret}"}
        return requests.get(f"{installation.url}/executions/", headers=headers, timeout=30)

    assert [get().status_code for _ in range(5)] == [200] * 5
    delete = "from executions.models import ApiToken; ApiToken.objects.all().delete()"
    installation.manage("shell", "-v0", "-c", delete)
    assert get().status_code == 401


def test_a_token_that_expires_is_refused_from_then_on(installation):
    installation.start_server(OPEN_ACCESS="off")
    headers = {"Authorization": f"Token {secret_of(installation, 'viewer', seconds=8)}"}

    def get():
        return requests.get(f"{installation.url}/executions/", headers=headers, timeout=30)

    assert [get().status_code for _ in range(2)] == [200] * 2
    wait_for(lambda: get().status_code == 401)
