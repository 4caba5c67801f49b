"""Pages by keyset: each costs the same, however deep it lies."""

import base64
import binascii
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.http import HttpRequest, QueryDict
from django.template import loader
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import IntegerField
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from executions.models import Execution, ExecutionQuerySet

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

T = TypeVar("T")

# A cursor says on which side of an execution the page lies.
OLDER, NEWER = b"o", b"n"


@dataclass(frozen=True)
class AskedPage:
    """Which page a request asks for."""

    limit: int
    side: bytes
    position: uuid.UUID | None  # None: at the newest end

    @property
    def bound(self) -> dict[str, uuid.UUID]:
        """For `services.list_executions`."""
        if self.position is None:
            return {}
        return {"newer_than" if self.side == NEWER else "older_than": self.position}

    def cut(self, rows: list[T]) -> tuple[list[T], list[tuple[str, bytes, int]]]:
        """Of one row more than the limit, the page: newest first.

        And its neighbours, each with its name, its side, and the index of the row that it is
        on that side of.
        """
        has_more = len(rows) > self.limit
        page = rows[: self.limit]
        if self.side == NEWER:
            page.reverse()
        # Whoever came here by a cursor came from the page on its other side.
        has_next = has_more or self.side == NEWER
        has_prev = has_more if self.side == NEWER else self.position is not None
        neighbours = [("next", OLDER, -1)] if has_next and page else []
        return page, neighbours + ([("prev", NEWER, 0)] if has_prev and page else [])


def read_page(query: QueryDict) -> AskedPage:
    """Raises ValidationError (400) for a bad `limit` or `cursor`."""
    return AskedPage(_read_limit(query.get("limit")), *_read_cursor(query.get("cursor")))


def link_header(links: dict[str, str]) -> dict[str, str]:
    header = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items())
    return {"Link": header} if header else {}


class ExecutionPagination(BasePagination):
    """A bare array, newest first, with the neighbouring pages in a `Link` header (RFC 8288).

    DRF's own CursorPagination filters a finished query by the cursor; here the
    query is made for the cursor, since one for several statuses is a union that
    can't be filtered any more.
    """

    template = "rest_framework/pagination/previous_and_next.html"
    display_page_controls = False
    links: dict[str, str]

    def paginate(self, find: Callable[..., ExecutionQuerySet], request: Request) -> list[Execution]:
        """The page that the request asks for.

        `find` takes `limit` and `older_than` or `newer_than`, an id, and gives
        so many of those executions, the nearest first. Raises ValidationError (400) for a bad
        `limit` or `cursor`.
        """
        asked = read_page(request.query_params)
        rows = list(find(limit=asked.limit + 1, **asked.bound))
        page, neighbours = asked.cut(rows)
        self.links = {
            rel: link_to(request, side, page[index].pk) for rel, side, index in neighbours
        }
        self.display_page_controls = bool(self.links)
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response(data, headers=link_header(self.links))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return schema

    def to_html(self) -> str:
        context = {"next_url": self.links.get("next"), "previous_url": self.links.get("prev")}
        return loader.render_to_string(self.template, context)

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        limit = {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_PAGE_SIZE,
            "default": PAGE_SIZE,
        }
        return [
            _parameter("limit", "How many executions to answer with.", limit),
            _parameter(
                "cursor",
                "Where the page begins, from the `Link` header of another page.",
                {"type": "string", "pattern": "^b[g-z0-9_-][A-Za-z0-9_-]{21}=$"},
            ),
        ]


def _read_limit(value: str | None) -> int:
    if value is None:
        return PAGE_SIZE
    try:
        return IntegerField(min_value=1, max_value=MAX_PAGE_SIZE).run_validation(value)
    except ValidationError as error:
        raise ValidationError({"limit": error.detail}) from error


def _read_cursor(value: str | None) -> tuple[bytes, uuid.UUID | None]:
    if value is None:
        return OLDER, None
    try:
        decoded = base64.b64decode(value.encode("ascii"), altchars=b"-_", validate=True)
        side, position = decoded[:1], uuid.UUID(bytes=decoded[1:])
        if side not in (OLDER, NEWER):
            raise ValueError(side)
    except (ValueError, binascii.Error) as error:
        raise ValidationError({"cursor": ["Invalid cursor."]}) from error
    return side, position


def link_to(request: HttpRequest | Request, side: bytes, position: uuid.UUID) -> str:
    cursor = base64.urlsafe_b64encode(side + position.bytes).decode()
    return replace_query_param(request.build_absolute_uri(), "cursor", cursor)


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }
