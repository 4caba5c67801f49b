"""Waiting for executions to change, for any number of readers at the price of one."""

import asyncio
import threading
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection

from executions.exceptions import TooManyReaders
from executions.models import Execution

# Seconds between two looks at everything that is waited for, in one query.
LOOK_INTERVAL = 0.1

# What a reader can see change: the status, the bytes written, and whether a cancel waits.
FIELDS = ("status", "output_size", "cancel_requested_at")
State = tuple[Any, ...]


def state_of(execution: Execution) -> State:
    return tuple(getattr(execution, name) for name in FIELDS)


class Watch:
    """Tells coroutines of changes. All of one event loop share one of these."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], tuple[uuid.UUID, State]] = {}
        self._look: asyncio.Task[None] | None = None

    async def changed(self, execution_id: uuid.UUID, seen: State, *, timeout: float) -> bool:
        """Whether the execution is no longer as `seen`, within `timeout` seconds."""
        change = asyncio.get_running_loop().create_future()
        self._waiting[change] = (execution_id, seen)
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._keep_looking())
        try:
            async with asyncio.timeout(timeout):
                await change
        except TimeoutError:
            return False
        finally:
            del self._waiting[change]
        return True

    async def _keep_looking(self) -> None:
        while self._waiting:
            await asyncio.sleep(LOOK_INTERVAL)
            wanted = {execution_id for execution_id, _ in self._waiting.values()}
            try:
                states = await asyncio.to_thread(_read_states, wanted)
            except OperationalError:
                continue  # the database is away; the readers' own time-outs go on
            for change, (execution_id, seen) in self._waiting.items():
                if states.get(execution_id) != seen and not change.done():
                    change.set_result(None)


def _read_states(wanted: set[uuid.UUID]) -> dict[uuid.UUID, State]:
    try:
        rows = Execution.objects.filter(pk__in=wanted).values_list("pk", *FIELDS)
        return {row[0]: row[1:] for row in rows}
    except OperationalError:
        connection.close()
        raise


class Places:
    """Bounds how many readers wait at once in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self) -> Callable[[], None]:
        """Take a place; what gives it back. Raises TooManyReaders (503) if there is none."""
        with self._lock:
            if self._taken >= settings.STREAM_LIMIT:
                raise TooManyReaders
            self._taken += 1
        given_back = threading.Event()

        def give_back() -> None:
            with self._lock:
                if not given_back.is_set():
                    given_back.set()
                    self._taken -= 1

        return give_back


watch = Watch()
places = Places()
