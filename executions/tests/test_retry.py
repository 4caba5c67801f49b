"""POST /executions/{id}/retry"""

import pytest

from executions import claims, services
from executions.models import Execution


def test_makes_a_new_execution_of_the_same(api, claimed):
    execution, token = claimed
    claims.finish_execution(execution.pk, token=token, exit_code=1)

    response = api.post(f"/executions/{execution.pk}/retry")

    assert response.status_code == 201
    retried = response.json()
    assert response["Location"].endswith(f"/executions/{retried['id']}")
    assert retried["id"] != str(execution.pk)
    assert retried["retry_of"] == str(execution.pk)
    for name in ("project_id", "bead_id", "context", "timeout"):
        assert retried[name] == getattr(execution, name)
    assert (retried["status"], retried["exit_code"]) == ("pending", None)
    execution.refresh_from_db()
    assert execution.status == "failed"


def test_what_has_not_ended_can_not_be_retried(api, execution):
    assert api.post(f"/executions/{execution.pk}/retry").status_code == 409

    claims.claim_executions(worker="w", limit=1, lease=30)
    assert api.post(f"/executions/{execution.pk}/retry").status_code == 409
    assert Execution.objects.count() == 1


@pytest.mark.parametrize("times", [2])
def test_may_be_retried_again_and_again(api, execution, times):
    services.cancel_execution(execution)

    ids = {api.post(f"/executions/{execution.pk}/retry").json()["id"] for _ in range(times)}

    assert len(ids) == times


def test_an_unknown_execution_is_not_found(api):
    assert api.post("/executions/unknown/retry").json() == {"detail": "Execution not found"}
