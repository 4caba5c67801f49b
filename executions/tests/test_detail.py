"""GET /executions/{id}"""

import pytest

from executions import claims
from executions.tests.helpers import write_output


def test_get_execution_not_found(api):
    """The seed's."""
    response = api.get("/executions/unknown-id")

    assert response.status_code == 404
    assert response.json() == {"detail": "Execution not found"}


@pytest.mark.parametrize(
    "name",
    [
        "01a204e9-82c4-73ea-8b12-b77399aed640",
        "{01a204e9-82c4-73ea-8b12-b77399aed641}",
        "01a204e982c473ea8b12b77399aed641",
        "%00",
        "%ff",
        "a.json",
        "é",
        "x" * 5000,
    ],
)
def test_what_is_no_id_of_ours_is_not_found(api, execution, name):
    response = api.get(f"/executions/{name}")

    assert response.status_code == 404
    assert response.json() == {"detail": "Execution not found"}


def test_a_path_that_is_not_there_is_json_too(api):
    assert api.get("/nowhere").json() == {"detail": "Not found."}


@pytest.mark.parametrize("slash", ["", "/"])
def test_shows_an_execution(api, execution, slash):
    response = api.get(f"/executions/{execution.pk}{slash}")

    assert response.status_code == 200
    assert response.json()["id"] == str(execution.pk)


def test_shows_the_output_and_how_it_ended(api, claimed):
    execution, token = claimed
    write_output(execution, token, b"a\0\xffb")
    claims.finish_execution(execution.pk, token=token, exit_code=4)

    shown = api.get(f"/executions/{execution.pk}").json()

    assert shown["output"] == "a\0\ufffdb"
    assert (shown["output_size"], shown["output_truncated"]) == (4, False)
    assert (shown["status"], shown["exit_code"]) == ("failed", 4)
    assert shown["failure_reason"] == "exit_code"
    assert shown["completed_at"].endswith("Z")


def test_shows_the_end_of_a_long_output(api, claimed):
    execution, token = claimed
    write_output(execution, token, b"x" * 100_000 + b"the end")

    shown = api.get(f"/executions/{execution.pk}").json()

    assert shown["output"].endswith("xthe end")
    assert len(shown["output"]) == 64 * 1024
    assert (shown["output_size"], shown["output_truncated"]) == (100_007, True)


def test_takes_few_queries(api, claimed, django_assert_num_queries):
    execution, token = claimed
    write_output(execution, token, b"x")

    with django_assert_num_queries(2):
        api.get(f"/executions/{execution.pk}")
