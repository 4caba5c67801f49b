"""What the web server loads: requests are read and answers are sent by an event loop, and
Django works in a few threads.

So a slow client holds no thread: its body is complete, and no larger than
allowed, before Django sees it. A reader who waits for output holds none either,
and one who goes away is noticed at once; both can't be had under WSGI.
"""

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard
from urllib.parse import unquote_to_bytes

from django.core import signals
from django.core.handlers.wsgi import get_script_name
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from granian.rsgi import ProtocolClosed

from config.request_ids import HEADER, begin
from config.wsgi import application
from executions.fast.calls import FastCalls

# More threads only wait for each other: for the interpreter, and for SQLite's one writer.
THREADS = 4

# Seconds after which a thread that computes lets another one on; Python's own 0.005 makes
# the event loop wait for Django's threads longer than most answers take.
SWITCH_INTERVAL = 0.0003

# Bytes of a request's body at most, and seconds that it may take to arrive.
MAX_BODY = 1024 * 1024
BODY_TIMEOUT = 30

CUT_OFF = "The body is not as long as announced."

# The header of the request's id in WSGI's spelling.
REQUEST_ID = f"HTTP_{HEADER.upper().replace('-', '_')}"


class BodyError(Exception):
    """The body can't be had; the status and the sentence to answer with."""


class Application:
    """Serves Django's WSGI handler over RSGI, granian's own interface."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="django")
        self.fast_calls = FastCalls(application.get_response)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        loop.set_default_executor(self.threads)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        if scope.proto != "http":
            protocol.close()
            return
        request_id = begin(scope.headers.get(HEADER.lower()))
        try:
            body = await read_body(scope, protocol)
        except BodyError as error:
            status, sentence = error.args
            headers = [("content-type", "application/json"), ("x-content-type-options", "nosniff")]
            headers.append((HEADER.lower(), request_id))
            protocol.response_str(status, headers, json.dumps({"detail": sentence}))
            return
        environ = build_environ(scope, body) | {REQUEST_ID: request_id}
        request = application.request_class(environ.copy())  # a request changes its own
        answer = await self.fast_calls.answer(request, body)
        if answer is not None:
            headers = [*answer.headers, (HEADER.lower(), request_id)]
            protocol.response_str(answer.status, headers, answer.content)
            return
        response = await asyncio.to_thread(handle, environ)
        if is_whole(response):
            send_whole(response, protocol)
            return
        gone = asyncio.ensure_future(protocol.client_disconnect())
        try:
            if (wait := getattr(response, "wait", None)) is not None:
                # The answer is worth waiting for: ask again when there is more to say.
                if await unless(gone, wait()) is None:
                    return
                response.close()
                environ = build_environ(scope, body) | {REQUEST_ID: request_id}
                environ["executions.has_waited"] = True
                response = await asyncio.to_thread(handle, environ)
            with contextlib.suppress(ProtocolClosed):  # the client was quicker than `gone`
                await self.send(response, protocol, gone)
        finally:
            gone.cancel()
            await asyncio.to_thread(response.close)

    async def send(
        self, response: HttpResponseBase, protocol: Any, gone: "asyncio.Future[Any]"
    ) -> None:
        if is_whole(response):
            send_whole(response, protocol)
            return
        assert isinstance(response, StreamingHttpResponse)  # noqa: S101 — Django has no third
        transport = protocol.response_stream(response.status_code, headers_of(response))
        parts: Any = response.streaming_content
        async for part in until(gone, parts if response.is_async else self.iterate(iter(parts))):
            await unless(gone, transport.send_bytes(part))

    async def iterate(self, parts: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Each part is made in a thread, since that may read the database or a file."""
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part


def is_whole(response: HttpResponseBase) -> TypeGuard[HttpResponse]:
    """Whether it is all there already, so that nobody need wait for more of it."""
    return isinstance(response, HttpResponse) and not hasattr(response, "wait")


def send_whole(response: HttpResponse, protocol: Any) -> None:
    protocol.response_bytes(response.status_code, headers_of(response), response.content)


def headers_of(response: HttpResponseBase) -> list[tuple[str, str]]:
    headers = [(name.lower(), value) for name, value in response.items()]
    return headers + [("set-cookie", each.OutputString()) for each in response.cookies.values()]


async def unless(gone: "asyncio.Future[Any]", awaitable: Awaitable[Any]) -> Any:
    """What it gives, or None if the client goes away first."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return task.result()


async def until(
    gone: "asyncio.Future[Any]", parts: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The parts, as long as the client is there."""
    async with contextlib.aclosing(parts):
        while (part := await unless(gone, anext(parts, None))) is not None:
            yield part


async def read_body(scope: Any, protocol: Any) -> bytes:
    """The whole body. Raises BodyError if it is too large, too slow or cut off."""
    announced = scope.headers.get("content-length")
    if announced is None and "transfer-encoding" not in scope.headers and scope.method == "GET":
        return b""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            if announced is not None and int(announced) <= MAX_BODY:
                body += await protocol()  # all at once: each part would be waited for
            else:
                async for part in protocol:
                    body += part
                    if len(body) > MAX_BODY:
                        raise BodyError(413, f"The body has more than {MAX_BODY} bytes.")
    except TimeoutError as error:
        raise BodyError(408, "The body did not arrive in time.") from error
    except ProtocolClosed as error:
        raise BodyError(400, CUT_OFF) from error
    if announced is not None and announced != str(len(body)):
        raise BodyError(400, CUT_OFF)
    return bytes(body)


def build_environ(scope: Any, body: bytes) -> dict[str, Any]:
    """The request as WSGI (PEP 3333) has it."""
    host, _, port = scope.server.rpartition(":")
    environ = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope.path).decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" in name:
            continue  # it could pose as the header with a dash
        key = "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
        separator = "; " if name == "cookie" else ", "
        environ[key] = f"{environ[key]}{separator}{value}" if key in environ else value
    if scope.authority is not None:
        environ["HTTP_HOST"] = scope.authority  # HTTP/2 has it in place of the header
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ["CONTENT_LENGTH"] = str(len(body))  # also of a body that came in chunks
    return environ


def handle(environ: dict[str, Any]) -> HttpResponseBase:
    """Django's answer, as its WSGI handler makes it; to be closed unless it is whole."""
    set_script_prefix(get_script_name(environ))
    signals.request_started.send(sender=application.__class__, environ=environ)
    response = application.get_response(application.request_class(environ))
    if is_whole(response):
        response.close()  # its content stays
    return response


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Application()
