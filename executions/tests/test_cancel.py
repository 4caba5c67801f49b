"""POST /executions/{id}/cancel"""

import pytest

from executions import claims, services
from executions.models import Execution


def cancel(api, execution, **options):
    return api.post(f"/executions/{execution.pk}/cancel", **options)


@pytest.mark.parametrize("slash", ["", "/"])
def test_what_waits_is_cancelled_at_once(api, execution, slash):
    response = api.post(f"/executions/{execution.pk}/cancel{slash}")

    assert response.status_code == 200
    cancelled = response.json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["cancel_requested_at"] <= cancelled["completed_at"]
    assert claims.claim_executions(worker="w", limit=1, lease=30) == []


def test_what_runs_is_asked_to_stop(api, claimed):
    execution, token = claimed

    response = cancel(api, execution)

    assert response.status_code == 202
    assert response.json()["status"] == "running"
    assert response.json()["cancel_requested_at"] is not None
    assert claims.cancelled_claims([token]) == {token}


def test_asking_again_changes_nothing(api, claimed):
    execution, _ = claimed

    first, second = cancel(api, execution), cancel(api, execution)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()


def test_what_is_cancelled_stays_so(api, execution):
    first, second = cancel(api, execution), cancel(api, execution)

    assert second.status_code == 200
    assert first.json() == second.json()


@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_has_ended_can_not_be_cancelled(api, claimed, exit_code):
    execution, token = claimed
    claims.finish_execution(execution.pk, token=token, exit_code=exit_code)
    before = Execution.objects.values().get()

    response = cancel(api, execution)

    assert response.status_code == 409
    assert "ended" in response.json()["detail"]
    assert Execution.objects.values().get() == before


@pytest.mark.parametrize("ending", [{"exit_code": 0}, {"exit_code": 143}])
def test_a_cancel_that_was_recorded_comes_true(api, claimed, ending):
    """However it ends then, whoever was answered 202 finds it cancelled."""
    execution, token = claimed
    cancel(api, execution)

    assert claims.finish_execution(execution.pk, token=token, **ending)

    execution.refresh_from_db()
    assert (execution.status, execution.failure_reason) == ("cancelled", None)
    assert execution.exit_code == ending["exit_code"]


def test_a_cancel_comes_true_without_its_worker(api, claimed):
    execution, token = claimed
    cancel(api, execution)
    claims.renew_leases([token], lease=-1)

    assert claims.fail_lost_executions() == 1

    execution.refresh_from_db()
    assert execution.status == "cancelled"


def test_an_unknown_execution_is_not_found(api):
    response = api.post("/executions/unknown/cancel")

    assert response.status_code == 404
    assert response.json() == {"detail": "Execution not found"}


@pytest.mark.parametrize("call", ["cancel", "retry"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{}", "application/json", None),
        ("", "", None),
        ("[]", "application/json", 400),
        ('{"force": true}', "application/json", 400),
        ("{", "application/json", 400),
        ("a=b", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_body_is_empty_or_refused(api, execution, call, body, content_type, status):
    services.cancel_execution(execution)

    response = api.generic(
        "POST", f"/executions/{execution.pk}/{call}", body, content_type=content_type
    )

    assert response.status_code == status or (status is None and response.status_code < 300)
    assert Execution.objects.count() == (2 if call == "retry" and status is None else 1)


@pytest.mark.parametrize("call", ["cancel", "retry"])
def test_a_get_does_nothing(api, execution, call):
    assert api.get(f"/executions/{execution.pk}/{call}").status_code == 405
    assert Execution.objects.get().status == "pending"
