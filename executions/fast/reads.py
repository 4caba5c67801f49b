"""A detail and a list: JSON that the database makes, by SQL that is kept."""

import functools
import json
import uuid
from typing import Any

from django.http import HttpRequest
from rest_framework.settings import api_settings

from executions import documents, services
from executions.access import Access
from executions.fast.answers import (
    HEADERS_OF_ALL,
    HEADERS_OF_ONE,
    NO_OUTPUT,
    Answer,
    Unusual,
    find_caller,
)
from executions.fast.reader import Reader
from executions.filters import read_list_parameters
from executions.models import Execution
from executions.output import read_output_end
from executions.pagination import PAGE_SIZE, link_header, link_to, read_page
from executions.prepared import Parameter, Prepared, Run
from executions.serializers import DETAIL_OUTPUT_BYTES

dumps = functools.partial(json.dumps, ensure_ascii=False)

# What narrows a list by an index that is in the order of the page. A bead and something else
# together have none: all executions of the bead are read.
SIMPLE = {"project_id", "bead_id", "status", "older_than", "newer_than"}

DETAIL = Prepared.select(
    lambda: Execution.objects.filter(pk=Parameter("pk")).values_list(
        documents.EXECUTION, "project_id", "status", "output_size", "output_left_out"
    )
)


@functools.lru_cache(maxsize=256)
def list_query(names: frozenset[str], limit: int) -> Prepared:
    """The query for a list that is narrowed by these arguments: each combination has its own."""
    given: dict[str, Any] = {name: Parameter(name) for name in names}
    if "status" in given:
        given["status"] = [given["status"]]
    return Prepared.select(
        lambda: services.list_executions(**given, limit=limit).values_list(
            "pk", documents.EXECUTION
        )
    )


def read(request: HttpRequest, origin: str, identifier: str | None, reader: Reader) -> Answer:
    """`origin` is such as http://localhost:8000; None as `identifier` asks for the list."""
    access, _ = find_caller(request, reader)
    if identifier is None:
        return read_list(request, origin, access, reader)
    return read_detail(request, access, identifier, reader.run)


def read_detail(request: HttpRequest, access: Access, identifier: str, run: Run) -> Answer:
    if not access.may_call("retrieve") or request.META["QUERY_STRING"]:
        raise Unusual
    pk = identifier.replace("-", "")
    rows = DETAIL.rows(run, pk=pk)
    if not rows:
        raise Unusual
    document, project_id, status, size, left_out = rows[0]
    if not access.may_view_in(project_id):
        raise Unusual
    if not size:
        return Answer(f"{document[:-1]},{NO_OUTPUT}}}", HEADERS_OF_ONE)
    has_ended = status in Execution.ENDED
    text, truncated = read_output_end(
        pk, size=size, left_out=left_out, has_ended=has_ended, limit=DETAIL_OUTPUT_BYTES, run=run
    )
    output = f'"output":{dumps(text)},"output_truncated":{dumps(truncated)}'
    return Answer(f"{document[:-1]},{output}}}", HEADERS_OF_ONE)


def read_list(request: HttpRequest, origin: str, access: Access, reader: Reader) -> Answer:
    if api_settings.URL_FORMAT_OVERRIDE in request.GET:
        raise Unusual
    asked = read_page(request.GET)
    filters = read_list_parameters(request.GET) if request.META["QUERY_STRING"] else {}
    given = asked.bound | filters
    if len(given.get("status", ())) > 1 or not SIMPLE.issuperset(given) or asked.limit > PAGE_SIZE:
        raise Unusual
    if "bead_id" in filters and len(filters) > 1:
        raise Unusual
    if "status" in given:
        given["status"] = given["status"].pop()
    projects = access.projects
    if not access.may_call("list") or not (projects is None or given.get("project_id") in projects):
        raise Unusual

    def make() -> Answer:
        rows = list_query(frozenset(given), asked.limit + 1).rows(reader.run, **given)
        page, neighbours = asked.cut(rows)
        links = {
            name: link_to(request, side, uuid.UUID(str(page[index][0])))
            for name, side, index in neighbours
        }
        link = [("link", value) for value in link_header(links).values()]
        content = ",".join([document for _, document in page])
        return Answer(f"[{content}]", link + HEADERS_OF_ALL)

    url = (origin, request.path, request.META["QUERY_STRING"])
    return reader.remember(url, make, size=lambda answer: len(answer.content))
