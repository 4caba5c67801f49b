"""Reading what executions wrote: whole, from a byte on, or its end as text."""

import codecs
import re
import uuid
from collections.abc import Iterator

from django.db.models.functions import Length

from executions.models import Execution, OutputChunk
from executions.prepared import Parameter, Prepared, Run, run

# Chunks read with one query: what a reader has in memory at most, 1 MiB.
BATCH = 16


def gap_line(size: int) -> bytes:
    """What stands where `size` bytes were left out."""
    return b"\n[... %d bytes left out ...]\n" % size


_around = Prepared.select(
    lambda: (
        OutputChunk.objects.filter(
            execution_id=Parameter("execution_id"), offset__lte=Parameter("start")
        )
        .order_by("-offset")
        .values_list("offset")[:1]
    )
)
_batch = Prepared.select(
    lambda: (
        OutputChunk.objects.filter(
            execution_id=Parameter("execution_id"),
            offset__gte=Parameter("first"),
            offset__lt=Parameter("end"),
        )
        .order_by("offset")
        .values_list("offset", "data")[:BATCH]
    )
)


def read_chunks(
    execution_id: uuid.UUID | str, *, start: int, end: int, run: Run = run
) -> Iterator[tuple[int, bytes]]:
    """What is stored between two bytes: each piece with where it begins. A hole is passed over.

    Every query begins anew where the last ended, so that a reader who takes
    hours holds no transaction.
    """
    first = 0
    if start > 0:  # the chunk that it lies in, if there is one, begins before it
        around = _around.rows(run, execution_id=execution_id, start=start)
        first = around[0][0] if around else 0
    while True:
        found = _batch.rows(run, execution_id=execution_id, first=first, end=end)
        for offset, data in found:
            skipped = max(start - offset, 0)
            if piece := bytes(data)[skipped : end - offset]:
                yield offset + skipped, piece
        if len(found) < BATCH:
            return
        first = found[-1][0] + 1


def stream_output(
    execution_id: uuid.UUID | str, *, start: int, end: int, run: Run = run
) -> Iterator[bytes]:
    """The output between two bytes, with a line for each part that was left out."""
    position = start
    for offset, data in read_chunks(execution_id, start=start, end=end, run=run):
        if offset > position:
            yield gap_line(offset - position)
        yield data
        position = offset + len(data)


def output_length(execution: Execution) -> int | None:
    """The bytes that `stream_output` gives of the whole; None while that is not certain."""
    if not execution.output_truncated:
        return execution.output_size
    if not execution.has_ended:
        return None
    # One hole after a good end. A killed worker may leave several: what it had stored for
    # those who watched, without what lay between.
    length = position = 0
    pieces = OutputChunk.objects.filter(execution=execution).order_by("offset")
    for offset, size in pieces.values_list("offset", Length("data")).iterator():
        if offset > position:
            length += len(gap_line(offset - position))
        length += size
        position = offset + size
    return length


def slice_output(execution: Execution, *, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end` of what `stream_output` gives of the whole."""
    if not execution.output_truncated:
        yield from stream_output(execution.pk, start=start, end=end)
        return
    # The line about what was left out shifts what follows: count from the beginning.
    position = 0
    for data in stream_output(execution.pk, start=0, end=execution.output_size):
        piece = data[max(start - position, 0) : max(end - position, 0)]
        if piece:
            yield piece
        position += len(data)
        if position >= end:
            return


def read_output_end(
    execution_id: uuid.UUID | str,
    *,
    size: int,
    left_out: int,
    has_ended: bool,
    limit: int,
    run: Run = run,
) -> tuple[str | None, bool]:
    """The last `limit` bytes of the output as text, and whether that is not all of it.

    `size`, `left_out` and `has_ended` are the execution's. None where nothing has been
    written. What is not UTF-8 is replaced, never refused.
    """
    if not size:
        return None, False
    first = max(size - limit, 0)
    text = b"".join(stream_output(execution_id, start=first, end=size, run=run))
    if first > 0:
        text = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", text)  # the rest of a character cut in two
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return decoder.decode(text, final=has_ended), first > 0 or left_out > 0


def output_end_of(execution: Execution, *, limit: int) -> tuple[str | None, bool]:
    """The same of an execution that is at hand."""
    return read_output_end(
        execution.pk,
        size=execution.output_size,
        left_out=execution.output_left_out,
        has_ended=execution.has_ended,
        limit=limit,
    )
