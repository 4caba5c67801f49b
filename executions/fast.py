"""The calls that are made all day, answered without the machinery of Django and DRF.

Why: a list of 100 takes the ViewSet 7 ms, of which SQLite needs 0.2. The rest goes into building
and compiling the same query again, into a model, fields and a dictionary for each row, and into
passing the request from the event loop to a thread and back. Here the SQL is kept, the database
writes the JSON, and SQLite is read on the event loop itself.

Only what is plain is answered here: the call of a program that is let in and gets what it asks
for. Everything else, every refusal among it, is left to the ViewSet. What is answered is what the
ViewSet would answer; `tests/test_fast.py` sees to that.
"""

import asyncio
import functools
import io
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.db import DatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException

from config import request_ids
from executions import audit, documents, services
from executions.access import EVERYTHING, Access, access_of
from executions.authentication import find_holder
from executions.exceptions import RETRY_AFTER, DatabaseUnavailable
from executions.filters import read_list_parameters
from executions.intake import Intake
from executions.models import Execution
from executions.output import read_output_end
from executions.pagination import PAGE_SIZE, link_header, link_to, read_page
from executions.parsers import StrictJSONParser
from executions.prepared import Parameter, Prepared, Run
from executions.reader import Reader, open_reader
from executions.serializers import (
    CONTEXT_BYTES,
    DETAIL_OUTPUT_BYTES,
    ID_LENGTH,
    MAX_TIMEOUT,
)

T = TypeVar("T")

dumps = functools.partial(json.dumps, ensure_ascii=False)

PATH = re.compile(r"/executions(?:/([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}))?/?")

# What programs accept that want JSON, or do not care.
ACCEPTED = {None, "*/*", "application/json", "application/json, text/plain, */*"}

# Beside what every answer carries.
HEADERS_OF_ALL = [("vary", "Accept, Cookie"), ("allow", "GET, POST, HEAD, OPTIONS")]
HEADERS_OF_ONE = [("vary", "Accept, Cookie"), ("allow", "GET, HEAD, OPTIONS")]

NO_OUTPUT = '"output":null,"output_truncated":false'

PARSER = StrictJSONParser()

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
        lambda: services.list_executions(**given).values_list("pk", documents.EXECUTION)[:limit]
    )


# Of a new execution.
FIELDS = {"project_id", "bead_id", "context", "timeout"}

# What narrows a list and has an index in the order of the page.
SIMPLE = {"project_id", "bead_id", "status", "older_than", "newer_than"}


class Unusual(Exception):
    """Left to the ViewSet."""


Headers = list[tuple[str, str]]


@dataclass
class Answer:
    content: str
    headers: Headers  # their names in lower case
    status: int = 200


class FastCalls:
    """Answers on the event loop."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """`get_response` is how Django answers."""
        self._get_response = get_response
        self._usual_headers: dict[str | None, Headers] = {}
        self._reader: Reader | None = None
        self._intake = Intake()

    async def answer(self, request: WSGIRequest, body: bytes) -> Answer | None:
        """The answer, or None if Django has to give it."""
        match = PATH.fullmatch(request.path_info)
        try:
            if match is None or not is_plain(request):
                return None
            if request.method == "GET":
                answer = await self._read(read, request, match[1])
            elif request.method == "POST" and match[1] is None:
                answer = await self._create(request, body)
            else:
                return None
        except (Unusual, APIException, SuspiciousOperation, DatabaseError):
            return None
        answer.headers = await self._get_usual_headers(request) + answer.headers
        return answer

    async def _read(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, which gets a reader as its last argument."""
        if self._reader is None:
            self._reader = await asyncio.to_thread(open_reader)
        if self._reader.waits:
            return await asyncio.to_thread(function, *arguments, self._reader)
        return function(*arguments, self._reader)

    async def _create(self, request: WSGIRequest, body: bytes) -> Answer:
        if request.content_type != "application/json":
            raise Unusual
        if not {"HTTP_ORIGIN", "HTTP_IDEMPOTENCY_KEY"}.isdisjoint(request.META):
            raise Unusual
        fields = PARSER.parse(io.BytesIO(body))
        if not is_surely_valid(fields):
            raise Unusual
        access, user = await self._read(find_caller, request)
        if not access.may_call("create") or not access.may_start_in(fields["project_id"]):
            raise Unusual
        try:
            execution = await self._intake.start_execution(user, fields)
        except DatabaseError:
            audit.record("create", request, user=user, status=503)
            detail = json.dumps({"detail": DatabaseUnavailable.default_detail})
            return Answer(detail, [("retry-after", str(RETRY_AFTER)), *HEADERS_OF_ALL], status=503)
        audit.record("create", request, user=user, made=str(execution.pk), status=201)
        location = f"{request.scheme}://{request.get_host()}/executions/{execution.pk}"
        content = f"{documents.describe(execution)[:-1]},{NO_OUTPUT}}}"
        return Answer(content, [("location", location), *HEADERS_OF_ALL], status=201)

    async def _get_usual_headers(self, request: WSGIRequest) -> Headers:
        """What the middleware adds to every answer: learnt once from one of Django's."""
        if request.scheme not in self._usual_headers:
            probe = type(request)(request.META | {"REQUEST_METHOD": "GET", "PATH_INFO": "/livez"})
            response = await asyncio.to_thread(self._get_response, probe)
            own = ("Content-Length", request_ids.HEADER)
            headers = [(name.lower(), value) for name, value in response.items() if name not in own]
            self._usual_headers[request.scheme] = headers
        return self._usual_headers[request.scheme]


def is_plain(request: HttpRequest) -> bool:
    """Whether a program sent it, to a name and in a way that are ours."""
    if request.META.get("HTTP_ACCEPT") not in ACCEPTED or "HTTP_COOKIE" in request.META:
        return False
    request.get_host()  # raises DisallowedHost
    return request.is_secure() or not settings.SECURE_SSL_REDIRECT


def is_surely_valid(fields: Any) -> bool:
    """Whether `ExecutionCreateSerializer` takes it and leaves it as it is; False if in doubt."""
    if not isinstance(fields, dict) or not FIELDS.issuperset(fields):
        return False
    for name in ("project_id", "bead_id"):
        value = fields.get(name)
        if not (isinstance(value, str) and 1 <= len(value) <= ID_LENGTH and value.isprintable()):
            return False
    context, timeout = fields.get("context"), fields.get("timeout")
    return (context is None or is_text(context)) and (
        timeout is None or (type(timeout) is int and 1 <= timeout <= MAX_TIMEOUT)
    )


def is_text(context: Any) -> bool:
    try:
        return "\0" not in context and len(context.encode()) <= CONTEXT_BYTES
    except (TypeError, AttributeError, UnicodeEncodeError):  # no string, or half a character
        return False


def find_caller(request: HttpRequest, reader: Reader) -> tuple[Access, User | None]:
    """What the caller may do, and who that is; None where access is open."""
    header = request.META.get("HTTP_AUTHORIZATION")
    if header is None:
        if settings.OPEN_ACCESS:
            return EVERYTHING, None
        raise Unusual
    holder = reader.remember(
        ("token", header), lambda: find_holder(header, run=reader.run), size=lambda _: 1000
    )
    if holder is None or holder.has_expired or not holder.use_is_noted:
        raise Unusual
    return access_of(holder.user), holder.user


def read(request: HttpRequest, identifier: str | None, reader: Reader) -> Answer:
    access, _ = find_caller(request, reader)
    if identifier is None:
        return read_list(request, access, reader)
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


def read_list(request: HttpRequest, access: Access, reader: Reader) -> Answer:
    asked = read_page(request.GET)
    filters = read_list_parameters(request.GET) if request.META["QUERY_STRING"] else {}
    given = asked.bound | filters
    if len(given.get("status", ())) > 1 or not SIMPLE.issuperset(given) or asked.limit > PAGE_SIZE:
        raise Unusual
    if "status" in given:
        [given["status"]] = given["status"]
    projects = access.projects
    if not access.may_call("list") or not (projects is None or given.get("project_id") in projects):
        raise Unusual

    def read() -> tuple[str, list[tuple[str, bytes, uuid.UUID]]]:
        rows = list_query(frozenset(given), asked.limit + 1).rows(reader.run, **given)
        page, neighbours = asked.cut(rows)
        links = [(name, side, uuid.UUID(str(page[at][0]))) for name, side, at in neighbours]
        return ",".join([document for _, document in page]), links

    key = (asked.limit, frozenset(given.items()))
    content, neighbours = reader.remember(key, read, size=lambda found: len(found[0]))
    links = {name: link_to(request, side, position) for name, side, position in neighbours}
    link = [("link", value) for value in link_header(links).values()]
    return Answer(f"[{content}]", link + HEADERS_OF_ALL)
