"""What the OpenAPI description says beyond what the code shows: answers, headers, examples."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import serializers

from executions.authentication import KEYWORD, TokenAuthentication
from executions.filters import ListParameters, OutputParameters
from executions.serializers import (
    ExecutionCreateSerializer,
    ExecutionDetailSerializer,
    ExecutionSerializer,
)

Endpoint = tuple[str, str, str, Any]  # path, its regular expression, method, view


def without_trailing_slash(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Name the paths of single executions as the contract does; both forms are answered."""
    return [
        (path if path == "/executions/" else path.rstrip("/"), *rest) for path, *rest in endpoints
    ]


def with_known_fields_only(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say that a body with other fields is refused."""
    result["components"]["schemas"]["ExecutionCreate"]["additionalProperties"] = False
    return result


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return build_bearer_security_scheme_object("Authorization", KEYWORD)


DETAIL = inline_serializer("Error", {"detail": serializers.CharField()})

FIELD_ERRORS: dict[str, Any] = {
    "type": "object",
    "description": "The faults of each field or parameter, or one `detail` for the whole.",
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    },
}


def error(description: str, detail: str, response: Any = DETAIL) -> OpenApiResponse:
    return OpenApiResponse(
        response,
        description=description,
        examples=[OpenApiExample("Example", {"detail": detail}, response_only=True)],
    )


def header(name: str, description: str, *, on: list[int]) -> OpenApiParameter:
    return OpenApiParameter(
        name,
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        response=on,
        description=description,
    )


BAD_BODY = OpenApiResponse(
    FIELD_ERRORS,
    description="Not JSON, or not what is asked for; nothing was stored.",
    examples=[
        OpenApiExample(
            "A field", {"project_id": ["This field may not be blank."]}, response_only=True
        ),
        OpenApiExample(
            "The whole", {"detail": "JSON parse error - Expecting value"}, response_only=True
        ),
    ],
)
BAD_PARAMETER = OpenApiResponse(
    FIELD_ERRORS,
    description="A parameter is unknown, or has a bad value.",
    examples=[OpenApiExample("A parameter", {"limit": ["Invalid."]}, response_only=True)],
)
UNAUTHENTICATED = error(
    "No token and no session, or a token that does not hold.",
    "Authentication credentials were not provided.",
)
FORBIDDEN = error(
    "The caller's role does not allow this.", "You do not have permission to perform this action."
)
THROTTLED = error(
    "The caller changed too much of late. `Retry-After` says when to go on, in seconds.",
    "Request was throttled. Expected available in 6 seconds.",
)
NOT_FOUND = error(
    "No execution has this id, or it is of a project that the caller does not see.",
    "Execution not found",
)
TOO_LARGE = error("The body is larger than 1 MiB.", "The body has more than 1048576 bytes.")
TOO_SLOW = error("The body did not arrive in 30 s.", "The body did not arrive in time.")
NOT_JSON = error(
    "The body is not `application/json`.", 'Unsupported media type "text/plain" in request.'
)
UNAVAILABLE = error(
    "The database can't be reached. `Retry-After` says when to try again, in seconds.",
    "The database can't be reached at the moment. Nothing was changed.",
)
KEY_REUSED = error(
    "The `Idempotency-Key` was used by the same caller for another request; nothing was stored.",
    "This Idempotency-Key was used for another request.",
)
LOCATION = header("Location", "The execution's own address.", on=[201])
RETRY_AFTER = header("Retry-After", "Seconds after which to try again.", on=[429, 503])
AUTHENTICATE = header("WWW-Authenticate", "`Token`", on=[401])
REQUEST_ID = OpenApiParameter(
    "X-Request-ID",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=(
        "Stands on the server's log lines of this request, and in its answer: at most 64 letters, "
        "digits, dots, dashes and underscores. Without one, or with another, it is made up."
    ),
)
EVERY_CALL = [RETRY_AFTER, AUTHENTICATE, REQUEST_ID]

EXAMPLE = {
    "id": "01a204e9-82c4-73ea-8b12-b77399aed641",
    "project_id": "shop",
    "bead_id": "shop-42",
    "status": "completed",
    "started_at": "2026-11-22T20:19:01.956000Z",
    "running_at": "2026-11-22T20:19:01.961343Z",
    "completed_at": "2026-11-22T20:19:02.113997Z",
    "output_size": 24,
    "context": "The basket forgets its last item.",
    "exit_code": 0,
    "failure_reason": None,
    "error": None,
    "timeout": 21600,
    "cancel_requested_at": None,
    "retry_of": None,
    "requested_by": "ada",
    "worker": "vm-1234",
}
DETAIL_EXAMPLE = {**EXAMPLE, "output": "Fixed; all tests pass.\n\n", "output_truncated": False}
PENDING_EXAMPLE = {
    **DETAIL_EXAMPLE,
    "status": "pending",
    "running_at": None,
    "completed_at": None,
    "exit_code": None,
    "output": None,
    "output_size": 0,
    "worker": None,
}
CANCELLED_EXAMPLE = {
    **DETAIL_EXAMPLE,
    "status": "cancelled",
    "exit_code": 143,
    "cancel_requested_at": "2026-11-22T20:19:02.013997Z",
}

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    OpenApiParameter.HEADER,
    description=(
        "Any 1 to 255 visible ASCII characters. The same key with the same request from the same "
        "caller gives the same execution, however often and however much at once."
    ),
)
ID = OpenApiParameter(
    "id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The execution's id."
)


def conflict(detail: str) -> OpenApiResponse:
    return error("The execution is not in a state for this; nothing was changed.", detail)


describe_executions = extend_schema_view(
    create=extend_schema(
        summary="Start an execution",
        description=(
            "Accepts an execution. It is kept, and will be run, once this answers with 201."
        ),
        request=ExecutionCreateSerializer,
        parameters=[
            IDEMPOTENCY_KEY,
            LOCATION,
            header(
                "Idempotent-Replayed", "`true` where the execution was there already.", on=[201]
            ),
            *EVERY_CALL,
        ],
        responses={
            201: ExecutionDetailSerializer,
            400: BAD_BODY,
            401: UNAUTHENTICATED,
            403: FORBIDDEN,
            413: TOO_LARGE,
            408: TOO_SLOW,
            415: NOT_JSON,
            429: THROTTLED,
            422: KEY_REUSED,
            503: UNAVAILABLE,
        },
        examples=[
            OpenApiExample(
                "A bead",
                {
                    "project_id": "shop",
                    "bead_id": "shop-42",
                    "context": "The basket forgets its last item.",
                },
                request_only=True,
            ),
            OpenApiExample("Accepted", PENDING_EXAMPLE, response_only=True, status_codes=["201"]),
        ],
    ),
    retrieve=extend_schema(
        summary="Show an execution",
        parameters=[ID, *EVERY_CALL],
        responses={
            200: ExecutionDetailSerializer,
            401: UNAUTHENTICATED,
            403: FORBIDDEN,
            404: NOT_FOUND,
            503: UNAVAILABLE,
        },
        examples=[
            OpenApiExample("Completed", DETAIL_EXAMPLE, response_only=True, status_codes=["200"])
        ],
    ),
    list=extend_schema(
        summary="List executions",
        description="Newest first, without their output.",
        parameters=[
            ListParameters,
            header(
                "Link",
                'The neighbouring pages, as `<…>; rel="next"` and `rel="prev"` (RFC 8288).',
                on=[200],
            ),
            *EVERY_CALL,
        ],
        responses={
            200: ExecutionSerializer(many=True),
            400: BAD_PARAMETER,
            401: UNAUTHENTICATED,
            403: FORBIDDEN,
            503: UNAVAILABLE,
        },
        examples=[OpenApiExample("One", EXAMPLE, response_only=True, status_codes=["200"])],
    ),
    cancel=extend_schema(
        summary="Cancel an execution",
        description=(
            "What waits is cancelled at once (200). What runs is asked to stop (202), has ended "
            "within the grace period, and ends as cancelled. Cancelled already: 200."
        ),
        request=None,
        parameters=[ID, *EVERY_CALL],
        responses={
            200: ExecutionDetailSerializer,
            202: ExecutionDetailSerializer,
            400: BAD_BODY,
            401: UNAUTHENTICATED,
            403: FORBIDDEN,
            404: NOT_FOUND,
            409: conflict("It has ended already, so it can't be cancelled."),
            413: TOO_LARGE,
            408: TOO_SLOW,
            415: NOT_JSON,
            429: THROTTLED,
            503: UNAVAILABLE,
        },
        examples=[
            OpenApiExample(
                "Cancelled", CANCELLED_EXAMPLE, response_only=True, status_codes=["200"]
            ),
            OpenApiExample(
                "Asked to stop",
                {
                    **CANCELLED_EXAMPLE,
                    "status": "running",
                    "completed_at": None,
                    "exit_code": None,
                },
                response_only=True,
                status_codes=["202"],
            ),
        ],
    ),
    watch=extend_schema(exclude=True),  # a page for people
    output=extend_schema(
        summary="Read the output",
        description=(
            "The bytes as they were written. Beyond the server's limit the beginning and the end "
            "are kept, and a line says how many bytes were left out between them.\n\n"
            "With `Accept: text/event-stream`, server-sent events: `output` with the byte offset "
            "as its `id`, `status` with the execution at each change, a comment every 15 s, and "
            "`end`."
        ),
        parameters=[
            ID,
            OutputParameters,
            OpenApiParameter(
                "Range",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="One range, such as `bytes=0-99` or `bytes=-1000`.",
            ),
            OpenApiParameter(
                "Last-Event-ID",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="Resume a stream of events after this byte offset; else ignored.",
            ),
            header("X-Output-Offset", "With `offset`: where to go on.", on=[200]),
            header("Accept-Ranges", "`bytes`", on=[200, 206]),
            header("Content-Range", "Which bytes these are, of how many.", on=[206, 416]),
            *EVERY_CALL,
        ],
        responses={
            (200, "text/plain"): OpenApiResponse(
                OpenApiTypes.STR,
                description="The output, or what of it was asked for.",
                examples=[OpenApiExample("Text", "Fixed; all tests pass.\n", response_only=True)],
            ),
            (200, "text/event-stream"): OpenApiTypes.STR,
            (206, "text/plain"): OpenApiResponse(
                OpenApiTypes.STR,
                description="The range.",
                examples=[OpenApiExample("Text", "all tests", response_only=True)],
            ),
            204: OpenApiResponse(
                description="A stream was to be resumed that has nothing more to tell."
            ),
            400: BAD_PARAMETER,
            401: UNAUTHENTICATED,
            403: FORBIDDEN,
            404: NOT_FOUND,
            416: error("The output has no such bytes.", "The output has no such bytes."),
            503: UNAVAILABLE,
        },
    ),
    retry=extend_schema(
        summary="Retry an execution",
        description="Accepts the same once more, as an execution of its own.",
        request=None,
        parameters=[ID, LOCATION, *EVERY_CALL],
        responses={
            201: ExecutionDetailSerializer,
            400: BAD_BODY,
            401: UNAUTHENTICATED,
            403: FORBIDDEN,
            404: NOT_FOUND,
            409: conflict("It has not ended yet, so it can't be retried."),
            413: TOO_LARGE,
            408: TOO_SLOW,
            415: NOT_JSON,
            429: THROTTLED,
            503: UNAVAILABLE,
        },
        examples=[
            OpenApiExample(
                "Accepted",
                {**PENDING_EXAMPLE, "retry_of": "01a204e9-7f10-7a3c-9d1b-55c1d3a0e7b2"},
                response_only=True,
                status_codes=["201"],
            )
        ],
    ),
)
