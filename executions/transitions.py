"""The one way in which a status changes.

Every change is one conditional UPDATE: it names the status, and for a running
execution the claim, that it starts from. One row changed, or it did not happen
and somebody else was first, which callers take as normal.
"""

from collections.abc import Callable
from typing import Any

from django.utils import timezone

from executions import wakeup
from executions.models import ExecutionQuerySet
from executions.prepared import Parameter, Prepared


class Transition:
    """A change of the one execution that is still as `find` describes it.

    Called with the values of the parameters that are in `find` and in `changes`; False if there
    is no such execution any more.
    """

    def __init__(self, find: Callable[[], ExecutionQuerySet], **changes: Any) -> None:
        self._update = Prepared.update(find, **changes)

    def __call__(self, **values: Any) -> bool:
        return self._update.execute(**values) == 1


class Ending(Transition):
    """A change to a terminal status."""

    def __init__(self, find: Callable[[], ExecutionQuerySet], **changes: Any) -> None:
        changes |= {"lease_token": None, "lease_expires_at": None}
        super().__init__(find, completed_at=Parameter("completed_at"), **changes)

    def __call__(self, **values: Any) -> bool:
        ended = super().__call__(completed_at=timezone.now(), **values)
        if ended:
            wakeup.ring_on_commit()  # its project has a free place
        return ended
