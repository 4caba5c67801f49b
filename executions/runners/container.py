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
from typing import Any

from executions.runners.base import Outcome, StartError
from executions.runners.container_output import RETRY_INTERVAL, ContainerOutput
from executions.runners.engine import Conflict, Engine, EngineAway, Missing, Refused, State

# Seconds after which a container that could not be started is given up: the Engine is away.
PATIENCE = 60.0

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


GONE = "Its container is gone: somebody has removed it, or it was never made."


class Lost(Exception):
    """How it went on can't be known any more; the message is a sentence."""


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
        self._labels = labels
        self._specification = specification
        self._remove = remove
        self._output = ContainerOutput(engine, name, skip=skip)
        self._begun = threading.Event()  # or it never will
        self._is_ours = False  # only then it is removed in the end
        self._given_up = False
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
        signal = "SIGKILL" if force else "SIGTERM"
        threading.Thread(target=self._signal, args=(signal,), daemon=True).start()

    def give_up(self) -> None:
        self._given_up = True
        self.outcome = Outcome(exit_code=None, failure_reason="worker_lost")

    def close(self) -> None:
        os.close(self._news)
        self._output.close()
        if self._is_ours and not self._given_up:
            self._remove(self._name)

    def _signal(self, signal: str) -> None:
        self._begun.wait()
        while self.outcome is None and not self._given_up:
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
            self._give_in("start_error", str(error))
        except Lost as error:
            self._give_in("worker_lost", str(error))
        except Exception:
            logger.exception("Following the container %s failed.", self._name)
            self._give_in("worker_lost", "The worker failed to follow its container.")
        finally:
            os.close(self._news_written)

    def _take_up(self) -> State:
        if self._specification is None:
            return self._find()
        self._create(self._specification)
        return self._start()

    def _begin(self, state: State) -> None:
        self.running_at = state.began_at
        self._begun.set()
        self._tell()
        self._output.follow()

    def _finish(self, state: State) -> None:
        """Tell the outcome, which comes from its state alone, and pass on the rest of its output."""
        if state.exit_code in CANNOT_START_CODES:
            self._output.finish()
            self._end(explain_end(state, self._output.end), running_at=state.began_at)
        else:
            self._end(explain_end(state, b""), running_at=state.began_at)
            self._output.finish()

    def _give_in(self, reason: Any, error: str) -> None:
        self._output.discard()
        self._end(Outcome(exit_code=None, failure_reason=reason, error=error))

    def _end(self, outcome: Outcome, *, running_at: datetime.datetime | None = None) -> None:
        self.outcome = outcome
        # Later than the outcome, or what had ended in time before it was adopted would time out.
        self.running_at = self.running_at or running_at
        self._begun.set()
        self._tell()

    def _tell(self) -> None:
        """Have the worker look."""
        with contextlib.suppress(BrokenPipeError):  # it has given this up
            os.write(self._news_written, b"!")

    def _create(self, specification: Mapping[str, Any]) -> None:
        patience_ends = time.monotonic() + PATIENCE
        while not self._is_ours:
            try:
                self._engine.create(self._name, specification)
                self._is_ours = True
            except Conflict as error:
                # By a call of ours whose answer was lost? Else it is another attempt's.
                self._recognize(self._inspect())
                if not self._is_ours:
                    raise StartError(str(error)) from error
            except Refused as error:
                raise StartError(str(error)) from error
            except EngineAway as error:
                if time.monotonic() > patience_ends:
                    raise StartError(f"The Docker Engine can't be reached: {error}.") from error
                self._pause()

    def _start(self) -> State:
        """Once and never again, whatever becomes of the Engine's answer."""
        try:
            self._engine.start(self._name)
        except Refused as error:
            if not self._inspect().has_begun:
                raise StartError(str(error)) from error
        except EngineAway:
            return self._await_begin()
        return self._inspect()

    def _await_begin(self) -> State:
        """Its start was asked for, and the answer was lost."""
        patience_ends = time.monotonic() + PATIENCE
        while not (state := self._inspect()).has_begun:
            if time.monotonic() > patience_ends:
                self._remove_unbegun()
                raise StartError("The Docker Engine was lost while it started the container.")
            self._pause()
        return state

    def _find(self) -> State:
        """What another worker has left."""
        state = self._inspect()
        self._recognize(state)
        if not self._is_ours:
            raise Lost(GONE)
        if not state.has_begun:
            self._remove_unbegun()
            raise Lost("The worker that claimed it was lost before its container began.")
        return state

    def _recognize(self, state: State) -> None:
        self._is_ours = self._labels.items() <= state.labels.items()

    def _remove_unbegun(self) -> None:
        """See to it that it will never begin: a call to start it may be on its way."""
        while True:
            try:
                self._engine.remove(self._name, force=False)
                return
            except Missing:
                return
            except Conflict as error:
                raise Lost("Its container began too late, and is stopped.") from error
            except (Refused, EngineAway):
                self._pause()

    def _await_end(self) -> State:
        while True:
            with contextlib.suppress(EngineAway, Refused):
                self._engine.wait(self._name)
            state = self._inspect()
            if state.has_ended:
                return state
            self._pause()

    def _inspect(self) -> State:
        """Its state, as soon as the Engine can tell."""
        while True:
            try:
                return self._engine.inspect(self._name)
            except Missing as error:
                raise Lost(GONE) from error
            except (EngineAway, Refused):
                self._pause()

    def _pause(self) -> None:
        if self._given_up:
            raise Lost("Another worker follows it.")
        time.sleep(RETRY_INTERVAL)


def explain_end(state: State, output_end: bytes) -> Outcome:
    """How a container ended. `output_end` is needed if its exit code is that of a failed start."""
    if state.exit_code != 0 and state.out_of_memory:
        error = "It needed more memory than its container may have."
        return Outcome(exit_code=state.exit_code, failure_reason="out_of_memory", error=error)
    if state.exit_code in CANNOT_START_CODES and (said := CANNOT_START.search(output_end)):
        why = said["why"].decode(errors="replace")
        error = f"The command can't be started: {why}."
        return Outcome(exit_code=None, failure_reason="start_error", error=error)
    return Outcome(exit_code=state.exit_code)
