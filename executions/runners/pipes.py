"""The pipe between what writes output and the worker that reads it."""

import contextlib
import fcntl
import os

# Bytes that a pipe holds, if the system allows it: fewer and longer turns for much output.
PIPE_SIZE = 1024 * 1024


def open_output_pipe() -> tuple[int, int]:
    """A descriptor to read from, which never waits, and one to write to."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # over the system's limit for this user
            fcntl.fcntl(readable, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return readable, writable
