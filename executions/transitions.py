"""The one way in which a status changes.

Every change is one conditional UPDATE: it names the status, and for a running
execution the claim, that it starts from. One row changed, or it did not happen
and somebody else was first, which callers take as normal.
"""

from typing import Any

from django.db import transaction
from django.utils import timezone

from executions import wakeup
from executions.models import ExecutionQuerySet


def transition(execution: ExecutionQuerySet, **changes: Any) -> bool:
    """Change the one execution that is still as `execution` describes it.

    False if there is none: somebody else was first.
    """
    return execution.update(**changes) == 1


def end(execution: ExecutionQuerySet, *, status: str, **changes: Any) -> bool:
    """Change the one execution that is still as `execution` describes it to a terminal status."""
    with transaction.atomic():
        ended = transition(
            execution,
            status=status,
            completed_at=timezone.now(),
            lease_token=None,
            lease_expires_at=None,
            **changes,
        )
        if ended:
            wakeup.ring_on_commit()  # its project has a free place
    return ended
