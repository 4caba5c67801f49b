"""What an execution has written and the database does not have yet, in bounded memory.

Up to the limit everything is stored as it comes. Beyond it the beginning stays
as it is, and of the rest the last part is kept: in memory to the byte, and in
the database a piece of it at each turn, for those who watch. When the output is
complete, what is missing of the last part is stored too.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

# Bytes of one stored piece at most: small enough to be read one by one, large enough to be few.
CHUNK_SIZE = 64 * 1024

# Bytes of the last part at most, since it stays in memory until the output is complete.
MAX_TAIL = 8 * 1024 * 1024

# Bytes beyond the limit that are stored at one turn. More would only be deleted at the next.
PREVIEW = 4 * CHUNK_SIZE

# Bytes before the limit that may wait for the database; then the command has to wait.
MAX_BACKLOG = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Write:
    """What one transaction stores."""

    size: int  # bytes written so far
    left_out: int  # bytes that the database does not have and will not get
    pieces: list[tuple[int, bytes]]  # where each begins, and its bytes
    discard: tuple[int, int] | None  # stored pieces that begin between these are deleted
    is_last: bool


class OutputBuffer:
    """Bytes in by `add`, transactions out by `next_write` and `written`."""

    def __init__(self, *, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._tail = min(limit // 2, MAX_TAIL)
        self._head = limit - self._tail
        self._blocks: deque[tuple[int, bytes]] = deque()  # what memory holds, without a hole
        self._frontier = 0  # all before it is stored or left out
        self._stored: deque[tuple[int, int]] = deque()  # stored pieces from the head's end on
        self._offered: Write | None = None
        self._stored_size = 0  # what another worker has stored, of which memory had no copy
        self._stored_left_out = 0

    @classmethod
    def resumed(
        cls, *, limit: int, size: int, left_out: int, pieces: Sequence[tuple[int, int]]
    ) -> Self:
        """Go on where another worker was, which has stored these `pieces` (start and end).

        Its own `size` says from which byte on it has to be fed: if there are
        holes that memory could have filled, from before them.
        """
        buffer = cls(limit=limit)
        prefix = 0
        for start, end in pieces:
            if start > prefix:
                break
            prefix = end
        if prefix < size:
            # The limit may have been another one. What is beyond a hole is beyond the head.
            buffer._limit = min(limit, size - 1)
            buffer._head = min(buffer._head, prefix)
        for start, end in pieces:
            if start < buffer._head < end:  # no piece belongs to both parts
                buffer._head = end
        buffer._stored = deque(each for each in pieces if each[0] >= buffer._head)
        buffer._frontier = buffer._head if size > buffer._limit else size
        buffer._stored_size, buffer._stored_left_out = size, left_out
        has_holes = prefix < size
        buffer.size = max(buffer._head, size - buffer._tail) if has_holes else size
        return buffer

    @property
    def is_behind(self) -> bool:
        """Whether it was not fed yet with all that is stored already."""
        return self.size < self._stored_size

    @property
    def has_unstored(self) -> bool:
        if self.is_behind:
            return False
        return self._offered is not None or self._stored_end < self.size

    @property
    def is_full(self) -> bool:
        if self.is_behind:  # nothing can be stored before it has caught up
            return False
        return self.size <= self._limit and self.size - self._frontier >= MAX_BACKLOG

    def add(self, data: bytes) -> None:
        self._blocks.append((self.size, data))
        self.size += len(data)
        self._drop_before(self._keep_from)

    def clear(self) -> None:
        """Forget what is not stored: nobody wants it any more."""
        self._blocks.clear()
        self._offered = None
        self._frontier = self.size
        self._stored.clear()

    def next_write(self, *, complete: bool) -> Write:
        """What to store now. The same again until `written`, whatever comes meanwhile.

        `complete` says that nothing more will come. The last write says so too.
        """
        if self.is_behind:
            return Write(
                size=self._stored_size,
                left_out=self._stored_left_out,
                pieces=[],
                discard=None,
                is_last=complete,
            )
        if self._offered is None:
            self._offered = self._make_write(complete=complete)
        return self._offered

    def written(self) -> None:
        """The write that was offered last has been committed."""
        write = self._offered
        if write is None:
            return
        self._offered = None
        if write.discard is not None:
            while self._stored and self._stored[0][0] < write.discard[1]:
                self._stored.popleft()
        tail = [(at, at + len(data)) for at, data in write.pieces if at >= self._head]
        self._stored = deque(sorted([*self._stored, *tail]))
        if write.is_last or not self._is_beyond_limit(write.size):
            self._frontier = write.size
        else:
            self._frontier = max(self._frontier, self._head)
        self._drop_before(self._keep_from)

    @property
    def _keep_from(self) -> int:
        """Where the last part begins that has to be kept; nothing before is needed any more."""
        if not self._is_beyond_limit(self.size):
            return self._frontier
        return max(self._frontier, self.size - self._tail)

    @property
    def _stored_end(self) -> int:
        return max(self._frontier, self._stored[-1][1] if self._stored else 0)

    def _is_beyond_limit(self, size: int) -> bool:
        return size > self._limit

    def _drop_before(self, position: int) -> None:
        # The head is never left out: what of it is not stored yet stays.
        if self._frontier < self._head:
            position = min(position, self._frontier)
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= position:
            self._blocks.popleft()

    def _make_write(self, *, complete: bool) -> Write:
        if not self._is_beyond_limit(self.size):
            return Write(
                size=self.size,
                left_out=0,
                pieces=self._cut(self._frontier, self.size),
                discard=None,
                is_last=complete,
            )
        head = self._cut(self._frontier, self._head) if self._frontier < self._head else []
        keep_from = max(self.size - self._tail, self._head)
        kept = [each for each in self._stored if each[1] > keep_from]
        start = max(self._frontier, keep_from)
        if complete:
            new = self._missing(start, kept)
        else:
            start = max(start, kept[-1][1] if kept else 0, self.size - PREVIEW)
            new = self._cut(start, self.size)
        first_kept = kept[0][0] if kept else self.size
        discard = (self._head, first_kept) if len(kept) < len(self._stored) else None
        in_tail = sum(end - at for at, end in kept) + sum(len(data) for _, data in new)
        return Write(
            size=self.size,
            left_out=self.size - self._head - in_tail,
            pieces=[*head, *new],
            discard=discard,
            is_last=complete,
        )

    def _missing(self, start: int, kept: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
        """What is to be stored for the last part to have no hole."""
        pieces = []
        for at, end in [*kept, (self.size, self.size)]:
            if start < at:
                pieces += self._cut(start, at)
            start = max(start, end)
        return pieces

    def _cut(self, start: int, end: int) -> list[tuple[int, bytes]]:
        """The bytes from `start` to `end`, in pieces. Those at the head's end meet there."""
        found = b"".join(
            data[max(start - at, 0) : max(end - at, 0)]
            for at, data in self._blocks
            if at < end and at + len(data) > start
        )
        first = start
        pieces = []
        while start < end:
            stop = min(start + CHUNK_SIZE, end)
            if start < self._head < stop:
                stop = self._head
            pieces.append((start, found[start - first : stop - first]))
            start = stop
        return pieces
