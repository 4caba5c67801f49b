"""Who may take over what a lost worker has left, and when it is given up."""

import datetime

import pytest
from django.db.models.functions import Now

from executions import claims
from executions.models import Execution
from executions.services import get_execution
from executions.tests.installation import Installation


@pytest.fixture
def left(execution):
    """An execution whose worker at the engine E has not been heard of for some seconds."""
    [(claimed, token)] = claims.claim_executions(worker="lost", limit=1, lease=30, engine="E")
    expire(claimed, seconds=5)
    return claimed, token


def expire(execution, *, seconds):
    Execution.objects.filter(pk=execution.pk).update(
        lease_expires_at=Now() - datetime.timedelta(seconds=seconds)
    )


def adopt(**changes):
    return claims.adopt_executions(**{"worker": "next", "engine": "E", "lease": 30} | changes)


def test_a_worker_at_the_same_engine_adopts_it_once(left):
    execution, old_token = left

    [(adopted, token)] = adopt()

    assert (adopted.pk, adopted.worker) == (execution.pk, "next")
    assert not adopt()
    assert not claims.finish_execution(execution.pk, token=old_token, exit_code=1)
    assert claims.finish_execution(execution.pk, token=token, exit_code=0)


def test_of_two_workers_that_have_seen_it_one_adopts_it(left, monkeypatch):
    original, rivals = claims._adopt, []

    def be_late(**values):
        monkeypatch.setattr(claims, "_adopt", original)
        rivals.extend(adopt(worker="rival"))
        return original(**values)

    monkeypatch.setattr(claims, "_adopt", be_late)

    assert adopt() == []
    assert [each.worker for each, _ in rivals] == ["rival"]


def test_nobody_adopts_what_is_elsewhere_or_held_or_its_own(left):
    _, token = left

    assert not adopt(engine="F")
    assert not adopt(but=[token])
    claims.renew_leases([token], lease=30)
    assert not adopt()


def test_what_is_released_can_be_adopted_at_once(left):
    _, token = left
    claims.renew_leases([token], lease=300)

    claims.release_claims([token])

    assert len(adopt()) == 1


def test_a_container_is_given_up_only_when_its_engine_stays_away(left):
    execution, _ = left

    assert claims.fail_lost_executions() == 0
    expire(execution, seconds=claims.ENGINE_LOST_AFTER + 1)
    assert claims.fail_lost_executions() == 1
    assert get_execution(execution.pk).failure_reason == "worker_lost"


def test_only_what_runs_is_live(left):
    execution, token = left
    asked = [str(execution.pk), "01a204e9-82c4-73ea-8b12-b77399aed641"]

    assert claims.running_among(asked) == {str(execution.pk)}
    claims.finish_execution(execution.pk, token=token, exit_code=0)
    assert claims.running_among(asked) == set()


IDENTIFY = """
from executions.launching import identify_installation
print(identify_installation())
"""


def test_a_copied_database_is_another_installation(installation, migrated_database, tmp_path):
    with Installation(tmp_path / "copy", template=migrated_database) as copy:
        here, again, there = (
            each.manage("shell", "-v0", "-c", IDENTIFY)
            for each in (installation, installation.sibling(), copy)
        )

    assert here == again
    assert here != there
