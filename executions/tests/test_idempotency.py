"""POST /executions/ with an Idempotency-Key"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from rest_framework.test import APIClient

from executions.models import Execution
from executions.tests.helpers import make_user

BODY = {"project_id": "p", "bead_id": "b"}


def post(api, key, body=BODY):
    return api.post("/executions/", body, headers={"Idempotency-Key": key})


def test_the_same_key_and_body_give_the_same_execution(api):
    first, second = post(api, "k"), post(api, "k")

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert first["Location"] == second["Location"]
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert Execution.objects.count() == 1


def test_a_replay_shows_the_execution_as_it_is_now(api):
    created = post(api, "k").json()
    api.post(f"/executions/{created['id']}/cancel")

    assert post(api, "k").json()["status"] == "cancelled"


@pytest.mark.parametrize(
    "other", [{"bead_id": "c"}, {"context": ""}, {"context": None}, {"timeout": 5}]
)
def test_another_body_is_refused(api, other):
    post(api, "k", {**BODY, "context": "x"})

    response = post(api, "k", {**BODY, **other})

    assert response.status_code == 422
    assert "Idempotency-Key" in response.json()["detail"]
    assert Execution.objects.count() == 1


def test_the_order_of_fields_does_not_matter(api):
    post(api, "k")

    assert post(api, "k", dict(reversed(BODY.items())))["Idempotent-Replayed"] == "true"


def test_other_keys_and_none_give_other_executions(api):
    for key in ("k", "K", "k1"):
        post(api, key)
    for _ in range(2):
        api.post("/executions/", BODY)

    assert Execution.objects.count() == 5


def test_each_caller_has_keys_of_their_own(api):
    ids = {post(api, "k").json()["id"]}
    for each in (make_user("ada", "starter"), make_user("bob", "starter")):
        client = APIClient()
        client.force_authenticate(each)
        ids.add(post(client, "k").json()["id"])

    assert len(ids) == 3


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "a\tb"])
def test_a_bad_key_is_named(api, key):
    response = post(api, key)

    assert response.status_code == 400
    assert list(response.json()) == ["Idempotency-Key"]
    assert not Execution.objects.exists()


def test_a_bad_body_does_not_use_the_key_up(api):
    assert post(api, "k", {"project_id": "p"}).status_code == 400
    assert post(api, "k").status_code == 201


def test_50_at_once_make_one_row(installation):
    installation.start_server()

    def send(_):
        return requests.post(
            f"{installation.url}/executions/",
            json=BODY,
            headers={"Idempotency-Key": "one"},
            timeout=60,
        )

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [a.headers.get("Idempotent-Replayed") for a in answers].count("true") == 49
    assert len(requests.get(f"{installation.url}/executions/", timeout=5).json()) == 1
