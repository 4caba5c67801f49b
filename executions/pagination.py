"""Pages by keyset: each costs the same, however deep it lies."""

import uuid
from typing import Any

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import IntegerField
from rest_framework.views import APIView


class ExecutionPagination(CursorPagination):
    """A bare array, newest first, with the neighbouring pages in a `Link` header (RFC 8288)."""

    ordering = "-id"
    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    page_size_query_description = "How many executions to answer with."
    cursor_query_description = "Where the page begins, from the `Link` header of another page."

    def get_page_size(self, request: Request) -> int:
        limit = request.query_params.get("limit")
        if limit is None:
            return self.page_size
        field = IntegerField(min_value=1, max_value=self.max_page_size)
        try:
            return field.run_validation(limit)
        except ValidationError as error:
            raise ValidationError({"limit": error.detail}) from error

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None:
                # An offset is for keys that are not unique; ours are, and offsets cost time.
                if cursor.offset != 0:
                    raise ValueError
                uuid.UUID(str(cursor.position))
        except (NotFound, ValueError, TypeError, AttributeError) as error:
            raise ValidationError({"cursor": ["Invalid cursor."]}) from error
        return cursor

    def get_paginated_response(self, data: Any) -> Response:
        links = {"next": self.get_next_link(), "prev": self.get_previous_link()}
        header = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items() if url)
        return Response(data, headers={"Link": header} if header else {})

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        cursor, limit = super().get_schema_operation_parameters(view)
        bounds = {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [cursor, {**limit, "schema": {"type": "integer", **bounds}}]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return schema
