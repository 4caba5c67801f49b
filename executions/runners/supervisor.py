"""The processes between a worker and the commands that it starts.

Run as a script by `ProcessRunner`, one for each worker. It is small, has one
thread and holds nothing, and it forks supervisors. Each of them runs one command
at a time and then the next: it starts the command, passes signals on to it and to
all that descends from it, ends what it leaves behind, and reports how it ended.

What they are for is the worker's death. A worker that is killed can't stop its
commands, and the operating system lets them run on. But every supervisor has a
socket to the worker, which closes with it whatever it died of; then it kills
everything below it. On Linux that includes daemons that left the process group
(the supervisor is their subreaper), and what is below a supervisor that is killed
comes to the process that forked it, and ends too; only where somebody has killed
that one as well, it goes on. Elsewhere the process group is reached.

On a supervisor's socket travel: to it a `REQUEST`, with the descriptor to write
output to, the length of a JSON object in four bytes and that object (`argv`,
`environment`, `workspace`), then a byte for each signal to send; from it JSON
lines, either `{"error"}` or `{"running_at"}` (seconds since 1970) and later
`{"exit_code"}`; then `READY`, once it can take another request.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any

import psutil

# <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36

# Begins a request: no signal has this number.
REQUEST = b"\0"

READY = b"!"

# Precedes its JSON: the bytes that it has.
LENGTH = struct.Struct("!I")

# The worker decides when this ends.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How often what has been killed but is not dead yet is looked at again, in seconds.
KILL_INTERVAL = 0.01


def main() -> None:
    """Fork a supervisor for every socket that comes in on standard input."""
    for number in IGNORED:
        # By a handler, since commands would inherit what is ignored, and start with it.
        signal.signal(number, lambda *_: None)
    child_ended = wake_on_child()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisors: set[int] = set()
    with socket.socket(fileno=sys.stdin.fileno()) as worker:
        while True:
            ready, _, _ = select.select([worker.fileno(), child_ended], [], [])
            if child_ended in ready:
                os.read(child_ended, 4096)
                collect(supervisors)
            if worker.fileno() in ready:
                message, received, _, _ = socket.recv_fds(worker, 1, 1)
                if not message:
                    return
                supervisors.add(fork_supervisor(*received, unused=[worker.fileno(), child_ended]))
                os.close(*received)


def fork_supervisor(received: int, *, unused: list[int]) -> int:
    pid = os.fork()
    if pid == 0:
        for descriptor in unused:
            os.close(descriptor)
        try:
            Supervisor(socket.socket(fileno=received)).run()
        except BaseException:
            traceback.print_exc()  # `os._exit` would swallow it
        finally:
            os._exit(0)
    return pid


def wake_on_child() -> int:
    """A descriptor that becomes readable whenever a child has ended."""
    readable, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    return readable


def collect(supervisors: set[int]) -> None:
    """Reap what has ended, and end what a killed supervisor has left: it comes to this process."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            supervisors.discard(ended[0])
            if ended[1] != 0:
                for orphan in psutil.Process().children():
                    if orphan.pid not in supervisors:
                        for process in [*orphan.children(recursive=True), orphan]:
                            with contextlib.suppress(psutil.Error):
                                process.kill()


class Supervisor:
    """Looks after one command at a time."""

    def __init__(self, worker: socket.socket) -> None:
        self.worker = worker
        self.command = 0  # its process id; also that of its group
        self.exit_code: int | None = None

    def run(self) -> None:
        """Return when the worker is gone."""
        child_ended = wake_on_child()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self.worker, 1, 1)
            except ConnectionError:  # it has left something unread
                return
            if not message:
                return
            if message == REQUEST:  # else a signal for what had just ended
                with contextlib.suppress(EOFError, ConnectionError):
                    self.run_command(self.receive_request(), *descriptors, child_ended=child_ended)
                with contextlib.suppress(OSError):
                    self.worker.sendall(READY)

    def receive_request(self) -> Any:
        (length,) = LENGTH.unpack(self.receive(LENGTH.size))
        return json.loads(self.receive(length))

    def receive(self, size: int) -> bytes:
        """So many bytes. Raises EOFError if the worker dies before it has sent them."""
        received = self.worker.recv(size, socket.MSG_WAITALL)
        if len(received) < size:
            raise EOFError
        return received

    def run_command(self, request: Any, output: int, *, child_ended: int) -> None:
        self.exit_code = None
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(temporary_folder(unless=request["workspace"]))
            except OSError as error:
                os.close(output)
                self.report(error=f"No temporary folder can be made: {error.strerror}.")
                return
            try:
                self.start(request["argv"], request["environment"], folder, output)
            except (OSError, ValueError) as error:
                self.report(error=explain(error, request["argv"][0], folder))
                return
            finally:
                os.close(output)
            try:
                self.report(running_at=time.time())
                self.supervise(child_ended)
            finally:
                self.end_everything()
            self.report(exit_code=self.exit_code)

    def start(self, argv: list[str], environment: dict[str, str], folder: str, output: int) -> None:
        # Nothing is done between fork and exec, so that Python can take vfork, which is quicker.
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.command = process.pid
        process.returncode = 0  # `reap` waits for it: Popen must not

    def supervise(self, child_ended: int) -> None:
        """Return when the command has ended, or everything has to."""
        while True:
            self.reap()
            if self.exit_code is not None:
                return
            ready, _, _ = select.select([self.worker.fileno(), child_ended], [], [])
            if child_ended in ready:
                os.read(child_ended, 4096)
            if self.worker.fileno() in ready:
                try:
                    order = self.worker.recv(1)
                except ConnectionError:  # it has left something unread
                    order = b""
                if not order:
                    return  # the worker is gone
                self.signal_everything(order[0])

    def reap(self) -> bool:
        """Collect what has ended. False when nothing is left below this process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.command:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code

    def signal_everything(self, number: int) -> None:
        """Signal the command's group, and each descendant that has left it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.command, number)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                if os.getpgid(process.pid) != self.command:
                    process.send_signal(number)

    def end_everything(self) -> None:
        """Kill what is left below this process until nothing is."""
        while self.reap():
            self.signal_everything(signal.SIGKILL)
            time.sleep(KILL_INTERVAL)

    def report(self, **news: Any) -> None:
        with contextlib.suppress(OSError):  # the worker is gone: nobody wants to know
            self.worker.sendall(json.dumps(news).encode() + b"\n")


@contextlib.contextmanager
def temporary_folder(*, unless: str | None) -> Iterator[str]:
    """The folder `unless`, or an empty one that is removed in the end."""
    if unless is not None:
        yield unless
        return
    folder = tempfile.mkdtemp(prefix="execution-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def explain(error: Exception, program: str, folder: str) -> str:
    """One sentence on why a command could not be started."""
    if not isinstance(error, OSError):
        return f"The command can't be started: {error}."
    if error.filename == folder:
        return f"The folder {folder} can't be entered: {error.strerror}."
    return f"The program {program} can't be started: {error.strerror}."


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); nothing elsewhere."""
    if sys.platform == "linux":
        LIBC.prctl(option, value, 0, 0, 0)


LIBC = ctypes.CDLL(None)

if __name__ == "__main__":
    main()
