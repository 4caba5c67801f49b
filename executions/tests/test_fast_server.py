"""Fast answers of the real server: its event loop, its threads, and who writes meanwhile."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from executions.tests.installation import wait_for
from executions.tests.test_fast import STRANGE
from executions.tests.test_fast_starts import GOOD

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
