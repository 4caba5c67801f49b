"""What executions wrote: storing it in chunks and reading it back."""

import codecs
import re

from executions.models import Execution, OutputChunk

# Bytes of one stored piece at most: small enough to be read one by one, large enough to be few.
CHUNK_SIZE = 64 * 1024


def read_output_end(execution: Execution, *, limit: int) -> tuple[str | None, bool]:
    """The last `limit` bytes of the output as text, and whether that is not all of it.

    None where nothing has been written. What is not UTF-8 is replaced, never refused.
    """
    if not execution.output_size:
        return None, False
    first = max(execution.output_size - limit, 0)
    chunks = OutputChunk.objects.filter(
        execution=execution, offset__gt=first - CHUNK_SIZE, offset__lt=execution.output_size
    ).order_by("offset")
    text = b"".join(bytes(data) for data in chunks.values_list("data", flat=True))[-limit:]
    cut = first > 0 or execution.output_truncated
    if first > 0:
        text = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", text)  # the rest of a character cut in two
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return decoder.decode(text, final=execution.has_ended), cut
