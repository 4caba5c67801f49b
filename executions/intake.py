"""Accepting executions for callers who wait on the event loop.

Those that come while others are being committed are committed together: they
share one transaction, and so one wait for the disk.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from rest_framework.exceptions import Throttled

from executions import services
from executions.models import Execution
from executions.throttling import take_change


@dataclass(eq=False)
class Asked:
    """One caller's wish, and what comes of it."""

    user: User | None
    fields: dict[str, Any]
    outcome: "asyncio.Future[Execution]"


class Intake:
    """All coroutines of one event loop share one of these."""

    def __init__(self) -> None:
        self._waiting: list[Asked] = []
        self._work: asyncio.Task[None] | None = None

    async def start_execution(self, user: User | None, fields: dict[str, Any]) -> Execution:
        """It is kept when this returns. Raises Throttled, or what the database raises."""
        asked = Asked(user, fields, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._keep_working())
        return await asked.outcome

    async def _keep_working(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            outcomes = await asyncio.to_thread(start_executions, batch)
            for asked, outcome in zip(batch, outcomes, strict=True):
                if asked.outcome.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    asked.outcome.set_exception(outcome)
                else:
                    asked.outcome.set_result(outcome)


def start_executions(batch: list[Asked]) -> list[Execution | Exception]:
    """What comes of each: all that are accepted are so together, or none is."""
    try:
        with transaction.atomic():
            outcomes = [start_one(asked) for asked in batch]
            services.accept_executions([each for each in outcomes if isinstance(each, Execution)])
    except DatabaseError as error:
        connection.close()  # the next one connects anew
        return [error] * len(batch)
    return outcomes


def start_one(asked: Asked) -> Execution | Exception:
    try:
        if asked.user is not None:
            take_change(asked.user)
    except Throttled as error:
        return error
    return services.new_execution(**asked.fields, requested_by=asked.user)
