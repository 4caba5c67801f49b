"""Every change of status by a worker, also of two at once."""

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from executions import claims
from executions.ids import new_id, time_of
from executions.models import Execution, OutputChunk
from executions.queue import lock_waiting
from executions.services import start_execution
from executions.tests.helpers import write_output

Status = Execution.Status


def claim(limit=1):
    return [each for each, _ in claims.claim_executions(worker="w", limit=limit, lease=30)]


def test_a_claim_takes_the_oldest(db):
    first, second = (start_execution(project_id=name, bead_id="b") for name in "ab")

    assert claim() == [first]
    assert claim() == [second]
    assert claim() == []


def test_a_claim_takes_no_more_than_its_limit(db):
    for name in "abc":
        start_execution(project_id=name, bead_id="b")

    assert len(claim(limit=2)) == 2
    assert claim(limit=0) == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_claim_passes_over_busy_projects(db, settings, concurrency):
    settings.EXECUTION_PROJECT_CONCURRENCY = concurrency
    busy = [start_execution(project_id="busy", bead_id="b") for _ in range(3)]
    other = start_execution(project_id="other", bead_id="b")

    assert claim(limit=10) == [*busy[:concurrency], other]


def test_a_claim_holds_until_its_lease_is_over(claimed):
    execution, _ = claimed

    assert execution.status == Status.RUNNING
    assert execution.worker == "w"
    assert 25 < (execution.lease_expires_at - timezone.now()).total_seconds() < 31


def test_renewing_names_the_claims_that_are_lost(claimed):
    execution, token = claimed
    unknown = uuid.uuid4()

    assert claims.renew_leases([token, unknown], lease=300) == {unknown}
    execution.refresh_from_db()
    assert (execution.lease_expires_at - timezone.now()).total_seconds() > 200


# Ends


@pytest.mark.parametrize(
    ("exit_code", "status", "reason"),
    [
        (0, Status.COMPLETED, None),
        (3, Status.FAILED, "exit_code"),
        (137, Status.FAILED, "exit_code"),
    ],
)
def test_an_exit_code_decides_how_it_ends(claimed, exit_code, status, reason):
    execution, token = claimed

    assert claims.finish_execution(execution.pk, token=token, exit_code=exit_code)
    execution.refresh_from_db()
    assert (execution.status, execution.exit_code) == (status, exit_code)
    assert execution.failure_reason == reason
    assert bool(execution.error) == (status == Status.FAILED)
    assert execution.completed_at is not None
    assert execution.lease_token is None


def test_another_reason_comes_before_the_exit_code(claimed):
    execution, token = claimed

    claims.finish_execution(
        execution.pk, token=token, exit_code=0, failure_reason="timeout", error="Too long."
    )
    execution.refresh_from_db()
    assert (execution.status, execution.failure_reason) == (Status.FAILED, "timeout")


def test_nothing_changes_what_has_ended(claimed):
    execution, token = claimed
    claims.finish_execution(execution.pk, token=token, exit_code=0)
    before = Execution.objects.values().get()

    assert not claims.finish_execution(execution.pk, token=token, exit_code=1)
    assert not write_output(execution, token, b"late")
    assert claims.renew_leases([token], lease=30) == {token}
    assert claims.fail_lost_executions() == 0
    assert claim() == []
    assert Execution.objects.values().get() == before
    assert not OutputChunk.objects.exists()


def test_another_token_changes_nothing(claimed):
    execution, _ = claimed
    before = Execution.objects.values().get()
    other = uuid.uuid4()

    assert not claims.finish_execution(execution.pk, token=other, exit_code=0)
    assert not write_output(execution, other, b"x")
    assert Execution.objects.values().get() == before


def test_a_lease_that_is_over_ends_as_worker_lost(claimed):
    execution, token = claimed
    assert claims.fail_lost_executions() == 0

    claims.renew_leases([token], lease=-1)
    assert claims.fail_lost_executions(but=[token]) == 0  # a jump of the caller's own clock
    assert claims.fail_lost_executions() == 1
    execution.refresh_from_db()
    assert (execution.status, execution.failure_reason) == (Status.FAILED, "worker_lost")
    assert claims.fail_lost_executions() == 0


@pytest.mark.parametrize(
    "impossible",
    [
        {"status": "running"},
        {"status": "failed", "completed_at": timezone.now()},
        {"status": "completed", "exit_code": 0},
        {"status": "completed", "completed_at": timezone.now(), "exit_code": 1},
        {"status": "pending", "completed_at": timezone.now()},
        {"status": "lost", "completed_at": timezone.now()},
    ],
)
def test_the_database_refuses_what_can_not_be_together(execution, impossible):
    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.update(**impossible)


# Two at once


def at_once(*calls):
    """What each call returns, all started together, each on a connection of its own."""

    def in_a_thread(call):
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(in_a_thread, calls))


@pytest.mark.django_db(transaction=True)
def test_many_claims_at_once_take_each_execution_once(settings):
    settings.EXECUTION_PROJECT_CONCURRENCY = 1000
    for _ in range(20):
        start_execution(project_id="p", bead_id="b")

    def claim_all():
        claimed = []
        while Execution.objects.pending().exists():  # whom another passes over is not forgotten
            claimed += claim(limit=4)
        return claimed

    taken = at_once(*[claim_all] * 8)

    claimed = [execution.pk for batch in taken for execution in batch]
    assert len(claimed) == len(set(claimed)) == 20


@pytest.mark.django_db(transaction=True)
def test_at_no_moment_more_of_a_project_run_than_may(settings):
    settings.EXECUTION_PROJECT_CONCURRENCY = 2
    for number in range(60):
        start_execution(project_id="pq"[number % 2], bead_id="b")

    def work():
        most = 0
        while Execution.objects.pending().exists():
            claimed = claims.claim_executions(worker="w", limit=3, lease=30)
            of_each = Counter(Execution.objects.running().values_list("project_id", flat=True))
            most = max([most, *of_each.values()])
            for execution, token in claimed:
                claims.finish_execution(execution.pk, token=token, exit_code=0)
        return most

    assert max(at_once(*[work] * 6)) == 2


@pytest.mark.django_db(transaction=True)
def test_many_claims_at_once_keep_to_one_of_a_project():
    for _ in range(8):
        start_execution(project_id="p", bead_id="b")

    taken = at_once(*[lambda: claim(limit=4)] * 8)

    assert sum(len(batch) for batch in taken) == 1


@pytest.mark.django_db(transaction=True)
def test_an_older_one_that_was_committed_later_is_not_claimed_beside_its_project_s(monkeypatch):
    """Ids are made before commits, so what a claim does not see yet may be older than what it does.

    Another claim that does see it must not take it beside the first one's.
    """
    older_id = new_id()
    newer = start_execution(project_id="p", bead_id="newer")
    taken, claimed_too = threading.Event(), threading.Event()

    def lock_and_wait(pk):
        result = lock_waiting(pk)
        if threading.current_thread() is not threading.main_thread():
            taken.set()
            claimed_too.wait(1)  # SQLite lets the other wait for this one's commit
        return result

    monkeypatch.setattr(claims, "lock_waiting", lock_and_wait)

    def claim_beside():
        taken.wait(10)
        moment = time_of(older_id)
        older = {"id": older_id, "project_id": "p", "bead_id": "older", "timeout": 1}
        Execution.objects.create(**older, started_at=moment)
        claimed = claim()
        claimed_too.set()
        return claimed

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: at_once(claim)[0])
        assert claim_beside() == []
        assert first.result() == [newer]


@pytest.mark.django_db(transaction=True)
def test_who_comes_second_claims_what_the_first_leaves():
    made = [start_execution(project_id=f"p{number}", bead_id="b") for number in range(8)]
    first_has_claimed, second_has_claimed = threading.Event(), threading.Event()

    def first():
        with transaction.atomic():
            claimed = claim(limit=4)
            first_has_claimed.set()
            second_has_claimed.wait(1)  # SQLite lets the other wait for this one's commit
        return claimed

    def second():
        first_has_claimed.wait(10)
        claimed = claim(limit=4)
        second_has_claimed.set()
        return claimed

    assert at_once(first, second) == [made[:4], made[4:]]


@pytest.mark.django_db(transaction=True)
def test_two_ends_at_once_make_one():
    execution = start_execution(project_id="p", bead_id="b")
    [(_, token)] = claims.claim_executions(worker="w", limit=1, lease=30)

    ends = at_once(
        *[
            lambda code=code: claims.finish_execution(execution.pk, token=token, exit_code=code)
            for code in range(6)
        ]
    )

    assert ends.count(True) == 1
    execution.refresh_from_db()
    assert execution.exit_code == ends.index(True)
