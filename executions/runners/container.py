"""One container on its way from its creation to its end.

A worker's one thread never waits for the Engine: other threads do, and tell of
news through a pipe. Nothing here dies with the worker; another one follows the
same container on.
"""

import contextlib
import datetime
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from executions.runners.base import Outcome, StartError
from executions.runners.container_output import ContainerOutput
from executions.runners.container_start import RETRY_INTERVAL, ContainerStart, Lost
from executions.runners.engine import Engine, EngineAway, Refused, State

# The name under which the shell within starts the command: it precedes what it complains of.
SHELL_NAME = "cannot-start"

# What a shell ends with if it can't start the command.
CANNOT_START_CODES = (126, 127)

# What that shell, or the init process in front of it, says if it can't.
CANNOT_START = re.compile(
    rb"^(?:%s:.* exec: (?:line \d+: )?|\[FATAL tini \(\d+\)\] exec )(?P<why>.+)\n\Z"
    % SHELL_NAME.encode(),
    re.MULTILINE,
)

logger = logging.getLogger(__name__)


class ContainerAttempt:
    """The container `name`, which is to be created and started, or is there already."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        labels: Mapping[str, str],
        specification: Mapping[str, Any] | None,
        skip: int,
        remove: Callable[[str], object],
    ) -> None:
        """`labels` tell it from others of the same name. `specification` is the body of the
        Engine API's call that creates it, or None if another worker has called already.

        The first `skip` bytes of its output are passed over. `remove` has a
        container removed, and does not wait.
        """
        self.running_at: datetime.datetime | None = None
        self.outcome: Outcome | None = None
        self._engine = engine
        self._name = name
        self._specification = specification
        self._remove = remove
        self._start = ContainerStart(engine, name, labels)
        self._output = ContainerOutput(engine, name, skip=skip)
        self._begun = threading.Event()  # or it never will
        self._news, self._news_written = os.pipe()
        os.set_blocking(self._news, False)
        threading.Thread(target=self._supervise, daemon=True).start()

    def event_fileno(self) -> int:
        return self._news

    def output_fileno(self) -> int:
        return self._output.fileno()

    def follow(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._news, 16)

    def read_output(self, size: int) -> bytes | None:
        return self._output.read(size)

    def stop(self, *, force: bool) -> None:
        self._start.stopped.set()
        signal = "SIGKILL" if force else "SIGTERM"
        threading.Thread(target=self._signal, args=(signal,), daemon=True).start()

    def give_up(self) -> None:
        self._start.given_up.set()
        self.outcome = Outcome(exit_code=None, failure_reason="worker_lost")

    def close(self) -> None:
        os.close(self._news)
        self._output.close()
        if self._start.is_ours and not self._start.given_up.is_set():
            self._remove(self._name)

    def _signal(self, signal: str) -> None:
        self._begun.wait()
        while self.outcome is None and not self._start.given_up.is_set():
            try:
                self._engine.signal(self._name, signal)
                return
            except (Refused, EngineAway):  # perhaps since it has ended, which is soon known
                time.sleep(RETRY_INTERVAL)

    def _supervise(self) -> None:
        try:
            state = self._take_up()
            if not state.has_ended:
                self._begin(state)
                state = self._await_end()
            self._finish(state)
        except StartError as error:
            self._fail("start_error", str(error))
        except Lost as error:
            self._fail("worker_lost", str(error))
        except Exception:
            logger.exception("Following the container %s failed.", self._name)
            self._fail("worker_lost", "The worker failed to follow its container.")
        finally:
            os.close(self._news_written)

    def _take_up(self) -> State:
        if self._specification is None:
            return self._start.find()
        self._start.create(self._specification)
        return self._start.start()

    def _begin(self, state: State) -> None:
        self.running_at = state.began_at
        self._begun.set()
        self._tell()
        self._output.follow()

    def _finish(self, state: State) -> None:
        """The outcome comes from its state alone. Then pass on the rest of its output."""
        if state.exit_code in CANNOT_START_CODES:
            self._end(explain_end(state, self._pass_on_rest()))
        else:
            self._end(explain_end(state, b""))
            self._pass_on_rest()

    def _pass_on_rest(self) -> bytes:
        """The last bytes of the whole output."""
        try:
            return self._start.insist(self._output.finish)
        except Lost:  # what is left can't be had
            return b""
        finally:
            self._output.discard()

    def _fail(self, reason: Any, error: str) -> None:
        self._end(Outcome(exit_code=None, failure_reason=reason, error=error))
        self._output.discard()

    def _end(self, outcome: Outcome) -> None:
        self.outcome = self.outcome or outcome
        self._begun.set()
        self._tell()

    def _tell(self) -> None:
        """Have the worker look."""
        with contextlib.suppress(BrokenPipeError):  # it has given this up
            os.write(self._news_written, b"!")

    def _await_end(self) -> State:
        while True:
            with contextlib.suppress(EngineAway, Refused):
                self._engine.wait(self._name)
            state = self._start.inspect()
            if state.has_ended:
                return state
            self._start.pause()


def explain_end(state: State, output_end: bytes) -> Outcome:
    """How a container ended. `output_end` is needed if its exit code is that of a failed start."""
    reason: Literal["start_error", "out_of_memory"] | None = None
    exit_code: int | None = state.exit_code
    error = None
    if state.exit_code != 0 and state.out_of_memory:
        reason = "out_of_memory"
        error = "It needed more memory than its container may have."
    elif state.exit_code in CANNOT_START_CODES and (said := CANNOT_START.search(output_end)):
        reason, exit_code = "start_error", None
        error = f"The command can't be started: {said['why'].decode(errors='replace')}."
    return Outcome(
        exit_code=exit_code,
        failure_reason=reason,
        error=error,
        running_at=state.began_at,
        ended_at=state.ended_at,
    )
