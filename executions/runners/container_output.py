"""What a container writes, on its way from the Engine's log into a pipe, each byte once."""

import contextlib
import os
import threading
import time

from executions.runners.container_start import RETRY_INTERVAL
from executions.runners.engine import Engine, EngineAway, Refused
from executions.runners.pipes import open_output_pipe

# Bytes of the end that `finish` gives, for the message of a command that could not start.
END_SIZE = 1024


class ContainerOutput:
    """Follows the output of one container, in a thread of its own, until `finish` is called."""

    def __init__(self, engine: Engine, name: str, *, skip: int) -> None:
        """The first `skip` bytes are passed over."""
        self._engine = engine
        self._name = name
        self._position = skip
        self._writing = threading.Lock()  # guards all of these
        self._is_complete = False
        self._is_closed = False
        self._readable, self._writable = open_output_pipe()

    def fileno(self) -> int:
        return self._readable

    def read(self, size: int) -> bytes | None:
        """At most `size` bytes; None when there are none now, b"" after the last."""
        try:
            return os.read(self._readable, size)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Nobody wants it any more."""
        os.close(self._readable)

    def follow(self) -> None:
        """Pass on what comes, from now on."""
        threading.Thread(target=self._follow, daemon=True).start()

    def finish(self) -> bytes:
        """Pass on the rest, now that the container has ended; the last bytes of the whole.

        A stream that follows an output may lack its last bytes, and end before the container or
        never; read once more it is complete. Waits for whoever reads it. Raises EngineAway or
        Refused, and can be called again then.
        """
        return self._copy(follow=False)

    def discard(self) -> None:
        """No more will come: what is in the pipe is the last. Calling it twice does no harm."""
        with self._writing:
            self._is_complete = True
            if not self._is_closed:
                self._is_closed = True
                os.close(self._writable)

    def _follow(self) -> None:
        while not self._is_complete:
            with contextlib.suppress(EngineAway, Refused):
                self._copy(follow=True)
            time.sleep(RETRY_INTERVAL)

    def _copy(self, *, follow: bool) -> bytes:
        """Copy from the container's first byte on what is new; the last bytes of it all."""
        position, end = 0, b""
        for data in self._engine.read_output(self._name, follow=follow):
            position += len(data)
            end = (end + data)[-END_SIZE:]
            with self._writing:
                if self._is_complete:
                    break
                if position > self._position:
                    self._write(data[self._position - position :])
                    self._position = position
        return end

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._writable, data) :]
        except BrokenPipeError:  # `close` was called
            self._is_complete = True
