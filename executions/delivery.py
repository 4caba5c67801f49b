"""The answers of `/output`: whole, in part, from a byte on, and as a stream of events."""

import asyncio
import codecs
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from executions.exceptions import RangeNotSatisfiable
from executions.live import places, state_of, watch
from executions.models import Execution
from executions.output import (
    gap_line,
    output_length,
    read_chunks,
    slice_output,
    stream_output,
)
from executions.serializers import ExecutionSerializer
from executions.services import get_execution

TEXT = "text/plain; charset=utf-8"

# Seconds between two signs of life on a stream on which nothing else happens.
COMMENT_INTERVAL = 15.0

LINE_END = re.compile("\r\n|\r|\n")


class WaitingResponse(HttpResponse):
    """Not the answer yet: `wait` until there is one, and ask again.

    The server does that (`config/rsgi.py`); one that can't wait sends this: 204.
    """

    def __init__(self, execution: Execution, *, seconds: int) -> None:
        super().__init__(status=204)
        seen = state_of(execution)
        self.wait = partial(watch.changed, execution.pk, seen, timeout=seconds)
        close_with(self, places.take())


def whole(execution: Execution, request: Request) -> HttpResponseBase:
    """Everything that is kept, or the part that a `Range` header asks for."""
    length = output_length(execution)
    if length is None:  # its middle moves while it is written: no part of it has a fixed place
        body = stream_output(execution.pk, start=0, end=execution.output_size)
        return StreamingHttpResponse(body, content_type=TEXT)
    header = request.headers.get("Range") if "If-Range" not in request.headers else None
    part = read_range(header, length)
    start, end = part or (0, length)
    response = StreamingHttpResponse(
        slice_output(execution, start=start, end=end),
        content_type=TEXT,
        status=200 if part is None else 206,
        headers={"Accept-Ranges": "bytes", "Content-Length": str(end - start)},
    )
    if part is not None:
        response["Content-Range"] = f"bytes {start}-{end - 1}/{length}"
    return response


def read_range(header: str | None, length: int) -> tuple[int, int] | None:
    """From where to where a `Range` header asks; None if it is to be ignored (RFC 9110, 14.2).

    Raises RangeNotSatisfiable (416) if it lies outside.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "", re.ASCII)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(length - int(last), 0), length
    else:
        start, end = int(first), min(int(last or length) + 1, length)
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(length)
    return start, end


def since(execution: Execution, request: Request, *, offset: int, wait: int) -> HttpResponseBase:
    """What came after byte `offset`, waiting up to `wait` seconds for something to come."""
    nothing_yet = execution.output_size <= offset and not execution.has_ended
    if nothing_yet and wait and "executions.has_waited" not in request.META:
        return WaitingResponse(execution, seconds=wait)
    end = max(execution.output_size, offset)
    return StreamingHttpResponse(
        stream_output(execution.pk, start=offset, end=end),
        content_type=TEXT,
        headers={"X-Output-Offset": str(end), "Cache-Control": "no-store"},
    )


def events(
    execution: Execution, request: Request, *, offset: int, may_go_on: Callable[[], bool]
) -> HttpResponseBase:
    """Server-sent events from `Last-Event-ID`, else from byte `offset` on.

    They end without `end` if `may_go_on`, asked now and then, says no.
    """
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        if not re.fullmatch(r"\d{1,18}", last, re.ASCII):
            raise ValidationError({"Last-Event-ID": ["A byte offset is required."]})
        offset = int(last)
        if execution.has_ended and offset >= execution.output_size:
            return HttpResponse(status=204)  # tells a browser that it need not come again
    give_back = places.take()
    response = StreamingHttpResponse(
        _stream_events(execution.pk, offset, may_go_on),
        content_type="text/event-stream",
        # The last tells nginx not to hold anything back.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    close_with(response, give_back)
    return response


def close_with(response: HttpResponseBase, function: Callable[[], None]) -> None:
    """Have the server call `function` when the answer is sent, or its reader is gone."""
    close = response.close

    def close_both() -> None:
        function()
        close()

    response.close = close_both  # type: ignore[method-assign]


async def _stream_events(
    execution_id: uuid.UUID, position: int, may_go_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    reader = _EventReader(execution_id, position)
    shown: Any = None
    comment_at = time.monotonic() + COMMENT_INTERVAL
    while True:
        execution = await asyncio.to_thread(get_execution, execution_id)
        if execution is None:
            return  # pruned
        part = reader.events_until(execution)
        while (event := await asyncio.to_thread(next, part, None)) is not None:
            yield event
        state = state_of(execution)
        if (status := (execution.status, execution.cancel_requested_at)) != shown:
            shown = status
            yield format_event("status", json.dumps(ExecutionSerializer(execution).data))
        if execution.has_ended:
            yield format_event("end", "")
            return
        if time.monotonic() >= comment_at:
            if not await asyncio.to_thread(may_go_on):
                return
            comment_at = time.monotonic() + COMMENT_INTERVAL
            yield b": still here\n\n"
        await watch.changed(execution_id, state, timeout=comment_at - time.monotonic())


class _EventReader:
    """Turns stored bytes into events of whole characters."""

    def __init__(self, execution_id: uuid.UUID, position: int) -> None:
        self._execution_id = execution_id
        self._position = position  # how many bytes have been read
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def events_until(self, execution: Execution) -> Iterator[bytes]:
        end = execution.output_size
        for offset, data in read_chunks(self._execution_id, start=self._position, end=end):
            if offset > self._position:
                line = gap_line(offset - self._position).decode()
                yield format_event("output", self._decoder.decode(b"", final=True) + line, offset)
                self._decoder.reset()
            self._position = offset + len(data)
            if text := self._decoder.decode(data):
                held_back, _ = self._decoder.getstate()
                yield format_event("output", text, self._position - len(held_back))
        if execution.has_ended and (rest := self._decoder.decode(b"", final=True)):
            yield format_event("output", rest, self._position)


def format_event(name: str, data: str, identifier: int | None = None) -> bytes:
    """One server-sent event. A carriage return can't be sent: it arrives as a line feed."""
    lines = [f"event: {name}"]
    if identifier is not None:
        lines.append(f"id: {identifier}")
    lines += [f"data: {line}" for line in LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()
