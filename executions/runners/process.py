"""The process runner: each execution is a process of this machine, as the worker's user."""

import contextlib
import datetime
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from executions.runners import supervisor
from executions.runners.base import Launch, Outcome, StartError
from executions.runners.launch import pass_through
from executions.runners.pipes import open_output_pipe
from executions.runners.supervisor import LENGTH, READY, REQUEST

# Seconds that the supervisor has for taking a request over; it needs a few milliseconds.
HANDOVER_TIMEOUT = 10

# What every command needs from the worker's environment to work at all.
BASIC_ENVIRONMENT = ("PATH", "HOME", "LANG")


class ProcessRunner:
    """Starts commands through supervisors, which end them all if this process dies.

    See `supervisor.py`. A supervisor whose command has ended rests until the next one.
    """

    engine_id: str | None = None

    def __init__(self) -> None:
        self._socket, self._process = start_supervisors()
        # Supervisors whose command has ended, with what is left to read of what they have told.
        self._resting: deque[tuple[socket.socket, bytes]] = deque()

    def start(self, launch: Launch) -> "ProcessAttempt":
        request = {
            "argv": list(launch.argv),
            "environment": pass_through(BASIC_ENVIRONMENT) | dict(launch.environment),
            "workspace": None if launch.workspace is None else str(launch.workspace),
        }
        message = json.dumps(request).encode()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                output, written = open_output_pipe()
                ours.callback(os.close, output)
                theirs.callback(os.close, written)
                supervised_by = self._take_supervisor()
                ours.callback(supervised_by.close)
                supervised_by.settimeout(HANDOVER_TIMEOUT)
                socket.send_fds(supervised_by, [REQUEST, LENGTH.pack(len(message))], [written])
                supervised_by.sendall(message)
            except OSError as error:
                raise StartError(f"No process can be started: {error}.") from error
            ours.pop_all()  # the attempt closes them
        return ProcessAttempt(supervised_by, output, rest=self._resting.append)

    def adopt(self, execution_id: str, *, skip: int) -> NoReturn:
        raise NotImplementedError("Processes end with their worker.")

    def sweep(self, find_live: Callable[[Sequence[str]], set[str]]) -> None:
        """Nothing is left behind, see `supervisor.py`; but a busy minute's supervisors may go."""
        self._dismiss()

    def close(self) -> None:
        self._dismiss()
        self._socket.close()
        self._process.wait()

    def _dismiss(self) -> None:
        while self._resting:
            self._resting.popleft()[0].close()

    def _take_supervisor(self) -> socket.socket:
        """The socket to one that is ready: an old one, or else a new one."""
        for _ in range(len(self._resting)):
            resting, unread = self._resting.popleft()
            try:
                is_gone = not (received := resting.recv(1))
                unread += received
            except BlockingIOError:
                is_gone = False
            except OSError:
                is_gone = True
            if is_gone:  # somebody has killed it
                resting.close()
            elif unread == READY:
                return resting
            else:  # it still removes a large folder
                self._resting.append((resting, unread))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._socket, [b"+"], [theirs.fileno()])
            except OSError:  # somebody has killed what forks them
                self.close()
                self._socket, self._process = start_supervisors()
                socket.send_fds(self._socket, [b"+"], [theirs.fileno()])
        return ours


def start_supervisors() -> tuple[socket.socket, subprocess.Popen[bytes]]:
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

    def __init__(
        self,
        supervisor: socket.socket,
        output: int,
        *,
        rest: Callable[[tuple[socket.socket, bytes]], None],
    ) -> None:
        """`rest` takes the socket to the supervisor when its command has ended."""
        self.running_at: datetime.datetime | None = None
        self.outcome: Outcome | None = None
        self._supervisor = supervisor
        self._supervisor.setblocking(False)
        self._is_over = False  # as the supervisor says
        self._rest = rest
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
        os.close(self._output)
        if self._is_over:
            self._rest((self._supervisor, self._unread))
        else:
            self._supervisor.close()

    def _note(
        self,
        running_at: float | None = None,
        error: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        if running_at is not None:
            self.running_at = datetime.datetime.fromtimestamp(running_at, datetime.UTC)
        elif error is not None:
            self._is_over = True
            self._end(None, "start_error", error)
        else:
            self._is_over = True
            self._end(exit_code)

    def _end(self, exit_code: int | None, reason: Any = None, error: str | None = None) -> None:
        self.outcome = Outcome(exit_code=exit_code, failure_reason=reason, error=error)
