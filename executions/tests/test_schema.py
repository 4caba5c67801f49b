"""/openapi.json, /docs, /redoc"""

import pytest
from django.core.management import call_command


@pytest.fixture
def schema(client):
    return client.get("/openapi.json").json()


def test_is_valid_and_gives_no_warning(capsys):
    call_command("spectacular", "--validate", "--fail-on-warn")

    assert "openapi: 3.1.0" in capsys.readouterr().out


def test_names_the_paths_of_the_contract(schema):
    assert {
        f"{method.upper()} {path}" for path, calls in schema["paths"].items() for method in calls
    } == {
        "GET /executions/",
        "POST /executions/",
        "GET /executions/{id}",
        "GET /executions/{id}/output",
        "POST /executions/{id}/cancel",
        "POST /executions/{id}/retry",
    }


def test_describes_every_parameter_of_the_list(schema):
    parameters = {
        each["name"]: each for each in schema["paths"]["/executions/"]["get"]["parameters"]
    }

    assert set(parameters) == {
        "project_id",
        "bead_id",
        "status",
        "started_after",
        "started_before",
        "limit",
        "cursor",
        "X-Request-ID",
    }
    assert all(each["description"] for each in parameters.values())
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 100,
    }


# No token, or one whose user may not do this; with the headers that say more.
REFUSED = {"401": {"WWW-Authenticate"}, "403": set()}


@pytest.mark.parametrize(
    ("path", "method", "answers"),
    [
        (
            "/executions/",
            "get",
            {"200": {"Link"}, "400": set(), **REFUSED, "503": {"Retry-After"}},
        ),
        (
            "/executions/",
            "post",
            {
                "201": {"Location", "Idempotent-Replayed"},
                "400": set(),
                **REFUSED,
                "408": set(),
                "413": set(),
                "415": set(),
                "422": set(),
                "429": {"Retry-After"},
                "503": {"Retry-After"},
            },
        ),
        (
            "/executions/{id}",
            "get",
            {"200": set(), **REFUSED, "404": set(), "503": {"Retry-After"}},
        ),
    ],
)
def test_describes_answers_headers_and_examples(schema, path, method, answers):
    described = schema["paths"][path][method]["responses"]

    assert {code: set(each.get("headers", {})) for code, each in described.items()} == answers
    for each in described.values():
        assert each["content"]["application/json"]["examples"]
