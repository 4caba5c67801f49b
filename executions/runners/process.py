"""The process runner: each execution is a process of this machine, as the worker's user."""

import contextlib
import datetime
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from executions.runners import supervisor
from executions.runners.base import Launch, Outcome, StartError
from executions.runners.launch import pass_through
from executions.runners.pipes import open_output_pipe
from executions.runners.supervisor import LENGTH

# Seconds that the supervisor has for taking a request over; it needs a few milliseconds.
HANDOVER_TIMEOUT = 10

# What every command needs from the worker's environment to work at all.
BASIC_ENVIRONMENT = ("PATH", "HOME", "LANG")


class ProcessRunner:
    """Starts commands through one `supervisor.py`, which ends them all if this process dies."""

    engine_id: str | None = None

    def __init__(self) -> None:
        self._socket, self._process = start_supervisor()

    def start(self, launch: Launch) -> "ProcessAttempt":
        request = {
            "argv": list(launch.argv),
            "environment": pass_through(BASIC_ENVIRONMENT) | dict(launch.environment),
            "workspace": None if launch.workspace is None else str(launch.workspace),
        }
        message = json.dumps(request).encode()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                near, far = socket.socketpair()
                ours.callback(near.close)
                theirs.callback(far.close)
                output, written = open_output_pipe()
                ours.callback(os.close, output)
                theirs.callback(os.close, written)
                self._hand_over(far.fileno(), written)
                near.settimeout(HANDOVER_TIMEOUT)
                near.sendall(LENGTH.pack(len(message)) + message)
            except OSError as error:
                raise StartError(f"No process can be started: {error}.") from error
            ours.pop_all()  # the attempt closes them
        return ProcessAttempt(near, output)

    def adopt(self, execution_id: str, *, skip: int) -> NoReturn:
        raise NotImplementedError("Processes end with their worker.")

    def sweep(self, find_live: Callable[[Sequence[str]], set[str]]) -> None:
        """Nothing is left behind: see `supervisor.py`."""

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def _hand_over(self, *descriptors: int) -> None:
        try:
            socket.send_fds(self._socket, [b"+"], descriptors)
        except OSError:  # somebody has killed it; the commands that it started go on without it
            self.close()
            self._socket, self._process = start_supervisor()
            socket.send_fds(self._socket, [b"+"], descriptors)


def start_supervisor() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start `supervisor.py`; it ends when the socket is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", supervisor.__file__],
            stdin=theirs.fileno(),
            # No secret of ours, and a session of its own: a signal to the
            # worker's group is the worker's to handle.
            env={name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
            start_new_session=True,
        )
    return ours, process


class ProcessAttempt:
    """A command under its supervisor."""

    def __init__(self, supervisor: socket.socket, output: int) -> None:
        self.running_at: datetime.datetime | None = None
        self.outcome: Outcome | None = None
        self._supervisor = supervisor
        self._supervisor.setblocking(False)
        self._unread = b""
        self._output = output

    def event_fileno(self) -> int:
        return self._supervisor.fileno()

    def output_fileno(self) -> int:
        return self._output

    def follow(self) -> None:
        try:
            received = self._supervisor.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError:
            received = b""
        if not received and self.outcome is None:
            self._end(None, "worker_lost", "The supervisor of the process was killed.")
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            self._note(**json.loads(line))

    def read_output(self, size: int) -> bytes | None:
        try:
            return os.read(self._output, size)
        except BlockingIOError:
            # After the outcome nobody is left to write.
            return None if self.outcome is None else b""

    def stop(self, *, force: bool) -> None:
        with contextlib.suppress(OSError):  # `follow` sees that it is gone
            self._supervisor.send(bytes([signal.SIGKILL if force else signal.SIGTERM]))

    def give_up(self) -> None:
        self.stop(force=True)

    def close(self) -> None:
        self._supervisor.close()
        os.close(self._output)

    def _note(
        self,
        running_at: float | None = None,
        error: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        if running_at is not None:
            self.running_at = datetime.datetime.fromtimestamp(running_at, datetime.UTC)
        elif error is not None:
            self._end(None, "start_error", error)
        else:
            self._end(exit_code)

    def _end(self, exit_code: int | None, reason: Any = None, error: str | None = None) -> None:
        self.outcome = Outcome(exit_code=exit_code, failure_reason=reason, error=error)
