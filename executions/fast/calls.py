"""Tells which calls are plain, and has them answered."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.db import Error
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException

from config import request_ids
from executions.fast.answers import Answer, Headers, Unusual, find_caller
from executions.fast.reader import Reader, open_reader
from executions.fast.reads import read
from executions.fast.starts import Intake, read_wish

T = TypeVar("T")

PATH = re.compile(r"/executions(?:/([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}))?/?")

# What programs accept that want JSON, or do not care.
ACCEPTED = {None, "*/*", "application/json", "application/json, text/plain, */*"}


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
            origin = f"{request.scheme}://{request.get_host()}"  # raises DisallowedHost
            if request.method == "GET":
                answer = await self._read(read, request, origin, match[1])
            elif request.method == "POST" and match[1] is None:
                answer = await self._start(request, body, origin)
            else:
                return None
        except (Unusual, APIException, SuspiciousOperation, Error):
            return None
        # With a token nobody looks for a session.
        vary = "Accept" if "HTTP_AUTHORIZATION" in request.META else "Accept, Cookie"
        usual = await self._get_usual_headers(request)
        return replace(answer, headers=[*usual, ("vary", vary), *answer.headers])

    async def _start(self, request: WSGIRequest, body: bytes, origin: str) -> Answer:
        access, user = await self._read(find_caller, request)
        fields = read_wish(request, body)
        if not access.may_call("create") or not access.may_start_in(fields["project_id"]):
            raise Unusual
        return await self._intake.start_execution(request, user, fields, origin=origin)

    async def _read(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, which gets a reader as its last argument."""
        if self._reader is None:
            self._reader = await asyncio.to_thread(open_reader)
        if self._reader.waits:
            return await asyncio.to_thread(function, *arguments, self._reader)
        return function(*arguments, self._reader)

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
    """Whether a program sent it, and as it should."""
    if request.META.get("HTTP_ACCEPT") not in ACCEPTED or "HTTP_COOKIE" in request.META:
        return False
    return request.is_secure() or not settings.SECURE_SSL_REDIRECT
