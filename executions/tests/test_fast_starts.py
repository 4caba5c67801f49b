"""What is started fast: as the serializers have it, and together with what comes meanwhile."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, InterfaceError, OperationalError, connection
from django.test import RequestFactory

from executions import documents, services
from executions.exceptions import DatabaseUnavailable
from executions.fast.answers import Unusual
from executions.fast.starts import BODY_SIZE, Wish, answer_to, fulfil, is_surely_valid, read_wish
from executions.models import Execution
from executions.serializers import (
    CONTEXT_BYTES,
    MAX_TIMEOUT,
    ExecutionCreateSerializer,
    ExecutionSerializer,
)
from executions.services import (
    start_execution,
)
from executions.tests.helpers import make_user
from executions.tests.test_create import BAD_FIELDS
from executions.tests.test_fast import STRANGE


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


def test_a_large_body_is_not_parsed_on_the_event_loop():
    for size, is_left in ((BODY_SIZE // 2, False), (BODY_SIZE, True)):
        body = json.dumps(GOOD | {"context": "x" * size}).encode()
        request = RequestFactory().post("/executions/", body, content_type="application/json")
        if is_left:
            with pytest.raises(Unusual):
                read_wish(request, body)
        else:
            assert read_wish(request, body)["context"] == "x" * size


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
