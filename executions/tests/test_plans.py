"""No call walks through a table: each query's plan, as the database tells it, and their number."""

import re
import uuid

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from executions import claims, output, queue, services
from executions.access import READ_BY_TOKEN
from executions.authentication import find_holder
from executions.buffer import Write
from executions.ids import new_id, time_of
from executions.models import ApiToken, Execution, OutputChunk
from executions.tests.helpers import make_user
from executions.tests.test_fast import fast
from executions.throttling import take
from executions.tokens import create_token, digest
from executions.wakeup import ring_on_commit

IS_SQLITE = connection.vendor == "sqlite"

ROWS = 6000
PROJECTS = 20


def key_of(table):
    """The index of a primary key."""
    return f"sqlite_autoindex_{table}_1" if IS_SQLITE else f"{table}_pkey"


PK, CHUNKS = key_of("executions_execution"), key_of("executions_outputchunk")


@pytest.fixture
def filled(api):
    """Thousands of executions of some projects: some of p1 wait, others of it run.

    Most have ended.
    """
    now = timezone.now()
    rows = []
    for number in range(ROWS):
        identifier = new_id()
        row = Execution(
            id=identifier,
            project_id=f"p{number % PROJECTS}",
            bead_id=f"b{number // 3}",
            timeout=1,
            started_at=time_of(identifier),
            output_size=4,
        )
        if number % 100 == 0:
            row.status, row.lease_token, row.lease_expires_at = "running", uuid.uuid4(), now
            row.project_id = "p1"
        elif number % 100 != 1:
            row.status, row.exit_code, row.completed_at = "completed", 0, now
        rows.append(row)
    Execution.objects.bulk_create(rows)
    OutputChunk.objects.bulk_create(
        OutputChunk(execution_id=row.pk, offset=0, data=b"text") for row in rows
    )
    analyze()
    return rows


def analyze():
    """As PostgreSQL does it by itself. SQLite's planner knows no table, unless it is told to."""
    if not IS_SQLITE:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def statements_of(call):
    """What it asks of the database about executions and their output, as it asks it.

    Without new rows, for which nothing is searched.
    """
    statements = []

    def note(execute, sql, params, many, context):
        is_ours = "executions_execution" in sql or "executions_outputchunk" in sql
        if is_ours and not sql.startswith("INSERT"):
            statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        call()
    return statements


def explain(sql, params):
    """The plan of a statement, a step a line."""
    verb = "EXPLAIN QUERY PLAN" if IS_SQLITE else "EXPLAIN (COSTS OFF)"
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} {sql}", params)
        return [row[-1].strip() for row in cursor.fetchall()]


def walks(step):
    """Whether a step of a plan reads all of a table of ours."""
    if IS_SQLITE:
        return re.match(r"SCAN executions_\w+$", step)
    return "Seq Scan on executions_" in step


def sorts(plan):
    """Whether the database sorts what it finds, more than what runs at the moment."""
    if any("execution_running" in step for step in plan):
        return False
    return any("TEMP B-TREE" in step or step.endswith("Sort") for step in plan)


def assert_plans(call, count, *indexes):
    """It takes so many statements, and each uses the index that is at its place.

    Where a planner may take one of several, they are separated by a bar.
    """
    statements = statements_of(call)
    plans = [explain(*each) for each in statements]

    assert len(statements) == count, statements
    for plan in plans:
        assert not any(walks(step) for step in plan), plan
    for wanted, plan in zip(indexes, plans, strict=True):
        assert any(re.search(rf"\b({wanted})\b", step) for step in plan), plan
    return plans


# What runs, however many have ended; and one of them.
RUNNING = "execution_running|execution_status"
ONE = f"{PK}|execution_status|execution_running"

PROJECT = "execution_project|execution_project_status"

LISTS = {
    "": PK,
    "?limit=1000": PK,
    "?project_id=p1": PROJECT,
    "?project_id=p1&status=completed": PROJECT,
    "?project_id=p1&status=running": "execution_project_status|execution_running",
    "?bead_id=b1": "execution_bead",
    "?bead_id=b1&project_id=p1": "execution_bead",
    "?bead_id=b1&status=completed": "execution_bead",
    "?bead_id=b1&project_id=p1&status=completed": "execution_bead",
    "?status=pending": "execution_status|execution_pending",
    "?status=running": "execution_status|execution_running",
    "?status=running&status=pending": "execution_status|execution_running",
    "?status=failed&status=cancelled&project_id=p1": "execution_project_status|execution_status",
    "?started_after=2026-01-01T00:00:00Z": PK,
    "?started_before=2100-01-01T00:00:00Z": PK,
    "?started_before=2100-01-01T00:00:00Z&project_id=p1": PROJECT,
}


@pytest.mark.parametrize("query", LISTS)
def test_a_list_reads_an_index_in_the_order_of_the_page(filled, api, query):
    [plan] = assert_plans(lambda: api.get(f"/executions/{query}"), 1, LISTS[query])

    assert not sorts(plan), plan


FAST_LISTS = (
    *("", "?project_id=p1", "?project_id=p1&status=completed", "?project_id=p1&status=running"),
    *("?bead_id=b1", "?status=pending", "?status=running"),
)


@pytest.mark.parametrize("query", FAST_LISTS)
def test_a_fast_list_reads_the_same_index(filled, query):
    found = []
    [plan] = assert_plans(lambda: found.append(fast(f"/executions/{query}")), 1, LISTS[query])

    assert found[0].status == 200
    assert not sorts(plan), plan


@pytest.mark.parametrize("query", ["", "&project_id=p1", "&status=completed"])
@pytest.mark.parametrize("side", [b"o", b"n"])
def test_a_deep_page_begins_where_it_begins(filled, api, query, side):
    """The cursor is a bound of the index: nothing before it is read."""
    middle = filled[ROWS // 2].pk
    bound = {"older_than" if side == b"o" else "newer_than": middle}
    asked = dict(part.split("=") for part in query.split("&") if part)
    if "status" in asked:
        asked["status"] = [asked["status"]]
    found = services.list_executions(**bound, **asked, limit=100)
    [plan] = assert_plans(lambda: list(found), 1, f"{PK}|{PROJECT}|execution_status")

    bounds = [step for step in plan if re.search(r"\bid ?[<>]", step)]
    assert bounds, plan


CALLS = {
    "detail": ("GET", "", [PK, CHUNKS]),
    "output": ("GET", "/output", [PK, CHUNKS]),
    "output from a byte on": ("GET", "/output?offset=2", [PK, CHUNKS, CHUNKS]),
    "cancel": ("POST", "/cancel", [PK, ONE, ONE, PK]),  # of what has ended
    "retry": ("POST", "/retry", [PK]),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_on_one_execution_finds_it_by_its_key(filled, api, name):
    method, path, indexes = CALLS[name]
    ended = filled[50]

    def call():
        answer = api.generic(method, f"/executions/{ended.pk}{path}")
        b"".join(answer.streaming_content) if answer.streaming else answer.content

    assert_plans(call, len(indexes), *indexes)


def test_a_fast_detail_finds_it_by_its_key(filled):
    assert_plans(lambda: fast(f"/executions/{filled[50].pk}"), 2, PK, CHUNKS)


def test_a_key_that_was_used_is_found_in_its_index(filled, api):
    body = {"project_id": "p", "bead_id": "b"}
    headers = {"Idempotency-Key": "1"}
    assert api.post("/executions/", body, headers=headers).status_code == 201

    def replay():
        assert api.post("/executions/", body, headers=headers)["Idempotent-Replayed"] == "true"

    assert_plans(replay, 1, "execution_idempotency_key")


@pytest.mark.parametrize("status", [[], ["pending", "running"]])
def test_who_is_limited_reads_an_index_of_each_project(filled, status):
    """Each list reads as many rows of each index as it answers with, however many there are."""
    found = services.list_executions(projects=["p0", "p1"], status=status, limit=10)
    [plan] = assert_plans(lambda: list(found), 1, PROJECT)

    assert not sorts(plan), plan
    used = [step for step in plan if re.search(r"\bexecution_(project|pending|running)", step)]
    assert len(used) == 2 * max(1, len(status)), plan


ADMIN = "/admin/executions/execution/"
ADMIN_LISTS = {
    "": [PK],
    "?status__exact=completed": [f"execution_status|{PK}"],
    "?status__exact=failed": ["execution_status"],
    "?started=day": [PK],
    "?q=p1": [PROJECT, "execution_bead", PK],
    "?q=b1": [PROJECT, "execution_bead", PK],
}


@pytest.mark.parametrize("query", ADMIN_LISTS)
def test_a_list_of_the_admin_reads_an_index(filled, admin_client, query):
    indexes = ADMIN_LISTS[query]
    assert_plans(lambda: admin_client.get(ADMIN + query), len(indexes), *indexes)


def test_a_page_of_the_admin_finds_its_execution_by_its_key(filled, admin_client):
    page = f"{ADMIN}{filled[50].pk}/change/"
    assert_plans(lambda: admin_client.get(page), 2, PK, CHUNKS)


@pytest.mark.parametrize("path", ["/executions/", "/executions/?project_id=p1"])
def test_the_browsable_api_reads_no_more_than_its_page(filled, api, path):
    call = lambda: api.get(path, headers={"Accept": "text/html"})  # noqa: E731
    assert_plans(call, 1, f"{PROJECT}|{PK}")


def test_access_is_found_by_the_token_and_by_the_user(filled, django_assert_num_queries):
    users = User.objects.bulk_create(User(username=f"u{number}") for number in range(500))
    ApiToken.objects.bulk_create(
        ApiToken(user=each, name="t", digest=digest(each.username)) for each in users
    )
    _, secret = create_token(user=make_user("ada", "starter"), name="t", expires_at=None)
    analyze()
    with django_assert_num_queries(1):
        assert find_holder(f"Token {secret}") is not None

    plan = explain(READ_BY_TOKEN, [digest(secret)])
    assert any("executions_apitoken" in step and "digest" in step for step in plan), plan


def test_an_allowance_takes_one_statement(db, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert take("a", (2, 60)) == 0
    with django_assert_num_queries(1):
        assert take("a", (2, 60)) == 0
    with django_assert_num_queries(2):  # and when it will be there again
        assert take("a", (2, 60)) > 0


# The worker


def test_a_claim_takes_few_statements_whatever_waits(filled):
    services.start_execution(project_id="free", bead_id="b")
    # The others belong to a busy project, and there are more of them than a claim looks at.
    assert Execution.objects.pending().count() > queue.WINDOW
    looks = [f"execution_status|{PK}", "execution_pending", ONE, ONE]
    call = lambda: claims.claim_executions(worker="w", limit=1, lease=30)  # noqa: E731

    assert_plans(call, len(looks), *looks)
    assert Execution.objects.get(project_id="free").status == "running"


def test_a_transaction_rings_once(db):
    with transaction.atomic():
        for is_undone in (True, False, False):
            with transaction.atomic():
                ring_on_commit()
                assert len(connection.run_on_commit) == 1
                transaction.set_rollback(is_undone)
        assert len(connection.run_on_commit) == 1


def test_a_claim_of_nothing_is_one_statement(filled):
    Execution.objects.pending().delete()

    call = lambda: claims.claim_executions(worker="w", limit=1, lease=30)  # noqa: E731
    assert_plans(call, 1, f"execution_status|execution_pending|{PK}")


@pytest.fixture
def held(filled):
    """A running execution and the token of its claim."""
    return filled[0].pk, filled[0].lease_token


def test_what_a_worker_writes_is_found_by_its_key(held):
    pk, token = held
    write = Write(size=8, left_out=0, pieces=[(4, b"more")], discard=None, is_last=False)
    progress = {"token": token, "running_at": timezone.now(), "write": write}
    assert_plans(lambda: claims.record_progress(pk, **progress), 1, ONE)
    assert_plans(lambda: claims.finish_execution(pk, token=token, exit_code=0), 1, ONE)


def test_what_a_worker_looks_at_every_second_is_what_runs(held):
    pk, token = held
    assert_plans(lambda: claims.cancelled_claims([token]), 1, RUNNING)
    assert_plans(lambda: claims.renew_leases([token], lease=300), 1, RUNNING)
    assert_plans(lambda: claims.release_claims([token]), 1, RUNNING)
    assert_plans(
        lambda: claims.adopt_executions(worker="w", engine="E", lease=30, but=[token]), 1, RUNNING
    )
    assert_plans(lambda: claims.running_among([str(pk)]), 1, ONE)
    lost = statements_of(lambda: claims.fail_lost_executions(but=[token]))
    for each in lost:
        assert not any(walks(step) for step in explain(*each))
    assert any(re.search(RUNNING, step) for step in explain(*lost[0]))


def test_output_is_read_in_pieces_from_its_index(filled):
    pk = filled[0].pk
    assert_plans(lambda: list(output.read_chunks(pk, start=0, end=4)), 1, CHUNKS)
    assert_plans(lambda: claims.stored_pieces(pk), 1, CHUNKS)
    assert_plans(lambda: output.output_length(Execution.objects.get(pk=pk)), 1, PK)


def test_heads_are_found_from_project_to_project(filled):
    """However many wait: an index of what waits is asked once for each project."""
    plan = explain(
        queue._HEADS.format(hint=" INDEXED BY execution_pending" if IS_SQLITE else ""), None
    )
    reads = [step for step in plan if "executions_execution" in step]

    assert len(reads) >= 3
    of_what_runs = "execution_running|execution_project_status"
    assert all(re.search(f"execution_pending|{of_what_runs}", step) for step in reads), plan
