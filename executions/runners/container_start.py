"""How a container begins: created once, started once, or found as another worker has left it.

Every step may meet an Engine that is away, and waits for it.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from executions.runners.base import StartError
from executions.runners.engine import Conflict, Engine, EngineAway, Missing, Refused, State

T = TypeVar("T")

# Seconds to wait before the Engine is asked again.
RETRY_INTERVAL = 0.5

# Seconds for which a container is tried to be created: then there is no Engine.
PATIENCE = 60.0

# How often in a row the Engine may refuse what it should not.
REFUSALS = 20

# Seconds after which a call to start a container, whose answer was lost, has surely not arrived.
SETTLED = 10.0

GONE = "Its container is gone: somebody has removed it, or it was never made."
ANOTHERS = "Another worker follows it."


class Lost(Exception):
    """How it went on can't be known any more; the message is a sentence."""


class ContainerStart:
    """Brings one container to where it has begun."""

    def __init__(self, engine: Engine, name: str, labels: Mapping[str, str]) -> None:
        """`labels` tell it from others of the same name."""
        self.given_up = threading.Event()  # by its worker: whatever waits for the Engine ends
        self.stopped = threading.Event()  # what has not been started by now is not wanted
        self.is_ours = False  # it is there, and ours to remove
        self._engine = engine
        self._name = name
        self._labels = labels

    def create(self, specification: Mapping[str, Any]) -> None:
        """Raises StartError if the Engine refuses, or stays away."""
        patience_ends = time.monotonic() + PATIENCE
        while not self.is_ours:
            self._check_wanted()
            try:
                self._engine.create(self._name, specification)
                self.is_ours = True
            except Conflict as error:
                # By a call of ours whose answer was lost? Else it is another attempt's.
                self._recognize(self.inspect())
                if not self.is_ours:
                    raise StartError(str(error)) from error
            except Refused as error:
                raise StartError(str(error)) from error
            except EngineAway as error:
                if time.monotonic() > patience_ends:
                    raise StartError(f"The Docker Engine can't be reached: {error}.") from error
                self.pause()

    def start(self) -> State:
        """Start it, and never again once it has begun. Raises StartError if it does not."""
        while True:
            self._check_wanted()
            try:
                self._engine.start(self._name)
            except Refused as error:
                state = self.inspect()
                if not state.has_begun:
                    raise StartError(str(error)) from error
                return state
            except EngineAway:
                state = self._settle()
                if not state.has_begun:
                    continue
                return state
            return self.inspect()

    def find(self) -> State:
        """What another worker has left. Raises Lost if that has not begun, or is not there."""
        state = self.inspect()
        self._recognize(state)
        if not self.is_ours:
            raise Lost(GONE)
        if not state.has_begun:
            # A call to start it may be on its way: it must not find it.
            try:
                self.insist(lambda: self._engine.remove(self._name, force=False))
            except Conflict as error:
                raise Lost("Its container began too late, and is stopped.") from error
            raise Lost("The worker that claimed it was lost before its container began.")
        return state

    def inspect(self) -> State:
        return self.insist(lambda: self._engine.inspect(self._name))

    def insist(self, call: Callable[[], T]) -> T:
        """What the Engine answers to `call`, however long it is away. Raises Conflict or Lost."""
        refusals = 0
        while True:
            try:
                return call()
            except Missing as error:
                raise Lost(GONE) from error
            except Conflict:
                raise
            except Refused as error:
                refusals += 1
                if refusals == REFUSALS:
                    raise Lost(str(error)) from error
            except EngineAway:
                pass
            self.pause()

    def pause(self) -> None:
        """Before the Engine is asked again. Raises Lost if the worker has given up."""
        if self.given_up.wait(RETRY_INTERVAL):
            raise Lost(ANOTHERS)

    def _settle(self) -> State:
        """Its state when it is certain whether it has begun."""
        answered_at = None
        while True:
            state = self.inspect()
            answered_at = answered_at or time.monotonic()
            if state.has_begun or time.monotonic() > answered_at + SETTLED:
                return state
            self.pause()

    def _check_wanted(self) -> None:
        if self.given_up.is_set():
            raise Lost(ANOTHERS)
        if self.stopped.is_set():
            raise Lost("It was stopped before its container began.")

    def _recognize(self, state: State) -> None:
        self.is_ours = self._labels.items() <= state.labels.items()
