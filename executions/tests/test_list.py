"""GET /executions/"""

import datetime
import re
import uuid

import pytest
from django.db.models import F

from executions.claims import claim_executions
from executions.ids import new_id, time_of
from executions.models import Execution
from executions.services import start_execution


def ids(response):
    assert response.status_code == 200, response.content
    return [each["id"] for each in response.json()]


def links(response):
    found = re.findall(r'<([^>]*)>; rel="(\w+)"', response.get("Link", ""))
    return {rel: url for url, rel in found}


def test_list_executions(api):
    """The seed's."""
    response = api.get("/executions/")

    assert response.status_code == 200
    assert isinstance(response.json(), list)


@pytest.mark.parametrize("url", ["/executions", "/executions/"])
def test_newest_first_and_without_output(api, url):
    made = [start_execution(project_id="p", bead_id="b") for _ in range(3)]

    response = api.get(url)

    assert ids(response) == [str(each.pk) for each in reversed(made)]
    assert "output" not in response.json()[0]
    assert "Link" not in response


def test_filters_by_project_and_bead(api):
    for project in ("p", "q"):
        for bead in ("1", "2"):
            start_execution(project_id=project, bead_id=bead)

    assert len(ids(api.get("/executions/", {"project_id": "p"}))) == 2
    assert len(ids(api.get("/executions/", {"bead_id": "1"}))) == 2
    assert len(ids(api.get("/executions/", {"project_id": "p", "bead_id": "1"}))) == 1
    assert ids(api.get("/executions/", {"project_id": "r"})) == []


def test_filters_by_one_status_and_by_several(api, execution):
    claim_executions(worker="w", limit=1, lease=30)
    start_execution(project_id="q", bead_id="b")

    assert len(ids(api.get("/executions/?status=running"))) == 1
    several = ids(api.get("/executions/?status=running&status=pending"))
    assert several == sorted(several, reverse=True)
    assert len(several) == 2
    assert ids(api.get("/executions/?status=failed")) == []


def test_filters_by_time_to_the_millisecond(api):
    first, second = (start_execution(project_id="p", bead_id="b") for _ in range(2))
    second.started_at = first.started_at + datetime.timedelta(milliseconds=1)
    second.save()

    def between(**bounds):
        return ids(api.get("/executions/", {k: v.isoformat() for k, v in bounds.items()}))

    assert between(started_before=second.started_at) == [str(first.pk)]
    assert between(started_before=first.started_at) == []
    assert str(first.pk) not in between(started_after=first.started_at)


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00Z", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59.999999Z"]
)
@pytest.mark.parametrize("name", ["started_after", "started_before"])
def test_any_time_is_a_bound(api, execution, name, moment):
    found = ids(api.get("/executions/", {name: moment}))

    assert bool(found) == ((name == "started_after") == moment.startswith(("0", "1")))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("colour=red", "colour"),
        ("output=1", "output"),
        ("project_id=", "project_id"),
        ("project_id=a%00b", "project_id"),
        ("project_id=a%0Ab", "project_id"),
        ("project_id=" + "x" * 256, "project_id"),
        ("project_id=a&project_id=b", "project_id"),
        ("status=done", "status"),
        ("status=", "status"),
        ("status=running&status=done", "status"),
        ("started_after=yesterday", "started_after"),
        ("started_before=2026-13-01T00:00:00Z", "started_before"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%FF%00", "cursor"),
        ("cursor=cD1ub3BlfA==", "cursor"),
        ("cursor=b123", "cursor"),
        ("cursor=eGFhYWFhYWFhYWFhYWFhYWE=", "cursor"),  # a UUID, but on no side
    ],
)
def test_a_bad_or_unknown_parameter_is_named(api, query, name):
    response = api.get(f"/executions/?{query}")

    assert response.status_code == 400
    assert list(response.json()) == [name]


def make_many(count, *, instant=None):
    moment = instant or time_of(new_id())
    base = new_id().int
    Execution.objects.bulk_create(
        Execution(
            # One millisecond for all of them: only the random part differs.
            id=uuid.UUID(int=base + number),
            project_id="p",
            bead_id=str(number),
            timeout=1,
            started_at=moment,
        )
        for number in range(count)
    )


def walk(api, url, rel):
    """The ids of all pages from `url` on, a list for each page."""
    pages = []
    while url:
        response = api.get(url)
        pages.append(ids(response))
        url = links(response).get(rel)
    return pages


def test_paging_over_one_instant_gives_each_once_in_both_directions(api):
    make_many(500)
    everything = [str(pk) for pk in Execution.objects.newest_first().values_list("pk", flat=True)]

    forward = walk(api, "/executions/?limit=7&project_id=p", "next")
    assert [each for page in forward for each in page] == everything
    assert {len(page) for page in forward[:-1]} == {7}

    last = "/executions/?limit=7&project_id=p"
    while following := links(api.get(last)).get("next"):
        last = following
    backward = walk(api, last, "prev")
    assert [each for page in reversed(backward) for each in page] == everything


def test_paging_over_several_statuses_gives_each_once_in_both_directions(api):
    make_many(30)
    everything = [str(pk) for pk in Execution.objects.newest_first().values_list("pk", flat=True)]
    for _ in range(10):
        claim_executions(worker="w", limit=1, lease=30)
        Execution.objects.update(project_id=F("bead_id"))  # every project has one
    url = "/executions/?limit=4&status=running&status=pending"

    forward = walk(api, url, "next")
    assert [each for page in forward for each in page] == everything
    assert Execution.objects.running().count() == 10

    while following := links(api.get(url)).get("next"):
        url = following
    backward = walk(api, url, "prev")
    assert [each for page in reversed(backward) for each in page] == everything


def test_limit_is_100_at_first_and_1000_at_most(api):
    make_many(1001)

    assert len(ids(api.get("/executions/"))) == 100
    assert len(ids(api.get("/executions/?limit=1000"))) == 1000


def test_new_executions_do_not_shift_pages(api):
    make_many(20)
    first = api.get("/executions/?limit=10")
    make_many(5)

    assert not set(ids(first)) & set(ids(api.get(links(first)["next"])))


def test_takes_one_query(api, django_assert_num_queries):
    make_many(50)

    with django_assert_num_queries(1):
        api.get("/executions/")
