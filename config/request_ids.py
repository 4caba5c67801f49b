"""One id for each request: in its answer, and on every line that is logged meanwhile."""

import logging
import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "X-Request-ID"

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def begin(sent: str | None) -> str:
    """The id of this request from here on: the caller's own if it is a short plain word."""
    request_id = sent if sent and re.fullmatch(r"[\w.-]{1,64}", sent, re.ASCII) else None
    request_id = request_id or secrets.token_hex(16)
    _current.set(request_id)
    return request_id


class RequestIdFilter(logging.Filter):
    """Gives each record its `request_id`; null outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = _current.get()
        return True


class RequestIdMiddleware:
    """For Django; the web server has begun already with the same header (`config/rsgi.py`)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = begin(request.headers.get(HEADER))
        response = self.get_response(request)
        response[HEADER] = request_id
        return response
