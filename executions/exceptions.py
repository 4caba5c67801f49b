"""What becomes an answer instead of a crash."""

import logging
from typing import Any

from django.db import InterfaceError, OperationalError, connection
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import exception_handler as default_handler

logger = logging.getLogger(__name__)

# Seconds after which a client may try again what is answered with 503.
RETRY_AFTER = 5


class Conflict(APIException):
    """The execution is not in a state for this; the message says which it would need."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class UnprocessableRequest(APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "unprocessable"


class RangeNotSatisfiable(APIException):
    status_code = status.HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE
    default_detail = "The output has no such bytes."
    default_code = "range_not_satisfiable"

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length  # bytes that the output has


class TooManyReaders(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Too many readers wait for output at the moment."
    default_code = "too_many_readers"


class DatabaseUnavailable(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The database can't be reached at the moment. Nothing was changed."
    default_code = "database_unavailable"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's own, and 503 with `Retry-After` for a database that can't be reached or is locked."""
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("The database failed: %s", error)
        connection.close()  # the next request connects anew
        error = DatabaseUnavailable()
    response = default_handler(error, context)
    if response is not None and response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(RETRY_AFTER)
    if response is not None and isinstance(error, RangeNotSatisfiable):
        response["Content-Range"] = f"bytes */{error.length}"
    return response
