"""Pages by keyset: each costs the same, however deep it lies."""

import base64
import binascii
import uuid
from collections.abc import Callable
from typing import Any

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

# A cursor says on which side of an execution the page lies.
OLDER, NEWER = b"o", b"n"


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

        `find` takes `older_than` or `newer_than`, an id, and gives those
        executions, the nearest first. Raises ValidationError (400) for a bad
        `limit` or `cursor`.
        """
        limit = _read_limit(request.query_params.get("limit"))
        side, position = _read_cursor(request.query_params.get("cursor"))
        bound = {"newer_than" if side == NEWER else "older_than": position} if position else {}
        rows = list(find(**bound)[: limit + 1])
        has_more = len(rows) > limit
        page = rows[:limit]
        if side == NEWER:
            page.reverse()
        # Whoever came here by a cursor came from the page on its other side.
        has_next, has_prev = (True, has_more) if side == NEWER else (has_more, position is not None)
        self.links = {}
        if has_next and page:
            self.links["next"] = _link(request, OLDER, page[-1].pk)
        if has_prev and page:
            self.links["prev"] = _link(request, NEWER, page[0].pk)
        self.display_page_controls = bool(self.links)
        return page

    def get_paginated_response(self, data: Any) -> Response:
        header = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in self.links.items())
        return Response(data, headers={"Link": header} if header else {})

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


def _link(request: Request, side: bytes, position: uuid.UUID) -> str:
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
