"""What callers can do with executions: start, show, list, cancel and retry them."""

import datetime
import hashlib
import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from executions import wakeup
from executions.ids import new_id, time_of
from executions.models import Execution, ExecutionQuerySet
from executions.prepared import Parameter, Prepared
from executions.transitions import Ending

Status = Execution.Status

_COLUMNS = [field.attname for field in Execution._meta.concrete_fields]
_insert = Prepared.insert(Execution)

_cancel_pending = Ending(
    lambda: Execution.objects.pending().filter(pk=Parameter("pk")),
    status=Status.CANCELLED,
    cancel_requested_at=Parameter("now"),
)


class KeyReusedError(Exception):
    """The same caller used the same idempotency key for another request."""


class HasEndedError(Exception):
    """It has completed or failed, so there is nothing to cancel."""


class HasNotEndedError(Exception):
    """It has not ended yet, so there is nothing to retry."""


def new_execution(
    *,
    project_id: str,
    bead_id: str,
    context: str | None = None,
    timeout: int | None = None,
    requested_by: Any = None,
    **origin: Any,
) -> Execution:
    """A pending execution that nobody has accepted yet; see `accept_executions`.

    `timeout` is in seconds; None takes the default of the settings.
    `requested_by` is a user, or None where access is open. `origin` is what
    `start_execution_once` and `retry_execution` add to the row.
    """
    identifier = new_id()
    return Execution(
        id=identifier,
        project_id=project_id,
        bead_id=bead_id,
        context=context,
        timeout=settings.EXECUTION_TIMEOUT if timeout is None else timeout,
        requested_by=requested_by,
        started_at=time_of(identifier),
        **origin,
    )


def accept_executions(executions: Sequence[Execution]) -> None:
    """Accept new executions, all or none: they are kept when the transaction is committed."""
    with transaction.atomic(savepoint=False):
        _insert.execute_many(
            {name: getattr(execution, name) for name in _COLUMNS} for execution in executions
        )
        wakeup.ring_on_commit()
    for execution in executions:
        execution._state.adding = False  # as `save` leaves it


def start_execution(**request: Any) -> Execution:
    """Accept a `new_execution`: it is pending, and kept, when this returns."""
    execution = new_execution(**request)
    accept_executions([execution])
    return execution


def start_execution_once(
    key: str, *, requested_by: Any = None, **request: Any
) -> tuple[Execution, bool]:
    """Accept an execution, or find the one that this caller got for this key and request.

    True with one that was there already. Raises KeyReusedError if the caller
    used the key for something else.
    """
    caller = None if requested_by is None else requested_by.pk
    digests: dict[str, Any] = {
        "idempotency_key": _digest([caller, key]),
        "request_digest": _digest(request),
    }
    # Looking first keeps a replay from writing; the constraint decides between two at once.
    if (execution := _find_by_key(**digests)) is not None:
        return execution, True
    try:
        with transaction.atomic():
            return start_execution(**request, requested_by=requested_by, **digests), False
    except IntegrityError:
        if (execution := _find_by_key(**digests)) is not None:
            return execution, True
        raise


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _find_by_key(*, idempotency_key: str, request_digest: str) -> Execution | None:
    found = Execution.objects.select_related("requested_by").filter(idempotency_key=idempotency_key)
    execution = found.first()
    if execution is not None and execution.request_digest != request_digest:
        raise KeyReusedError
    return execution


def cancel_execution(execution: Execution) -> Execution:
    """Cancel what waits at once; ask the worker of what runs to stop it. As it is now.

    What is asked for here comes true: an execution whose cancel was recorded
    before its end ends as cancelled. Raises HasEndedError if it has completed
    or failed.
    """
    now = timezone.now()
    if not _cancel_pending(pk=execution.pk, now=now):
        running = Execution.objects.running().filter(pk=execution.pk, cancel_requested_at=None)
        if running.update(cancel_requested_at=now):
            wakeup.ring_on_commit()
    execution.refresh_from_db()
    if execution.status in (Status.COMPLETED, Status.FAILED):
        raise HasEndedError
    return execution


def retry_execution(execution: Execution, *, requested_by: Any = None) -> Execution:
    """Accept the same once more. Raises HasNotEndedError if it is pending or running."""
    if not execution.has_ended:
        raise HasNotEndedError
    return start_execution(
        project_id=execution.project_id,
        bead_id=execution.bead_id,
        context=execution.context,
        timeout=execution.timeout,
        requested_by=requested_by,
        retry_of=execution.pk,
    )


def get_execution(execution_id: str | uuid.UUID) -> Execution | None:
    """The execution of that id, or None if there is none or the id is malformed."""
    try:
        identifier = uuid.UUID(str(execution_id))
    except ValueError:
        return None
    if str(identifier) != str(execution_id).lower():
        return None  # uuid.UUID also takes braces and the like; a URL has one spelling
    return Execution.objects.select_related("requested_by").filter(pk=identifier).first()


def list_executions(
    *,
    projects: Collection[str] | None = None,
    project_id: str | None = None,
    bead_id: str | None = None,
    status: Collection[str] = (),
    started_after: datetime.datetime | None = None,
    started_before: datetime.datetime | None = None,
    older_than: uuid.UUID | None = None,
    newer_than: uuid.UUID | None = None,
    limit: int | None = None,
) -> ExecutionQuerySet:
    """Executions, newest first; each argument that is given narrows them.

    `projects` are those that the caller may see, None: all. `newer_than` an id
    gives the oldest of those first: the nearest to it. `limit` None gives all.
    """
    if project_id is not None:
        projects = [project_id] if projects is None or project_id in projects else []
    executions = Execution.objects.select_related("requested_by")
    if started_after is not None:
        executions = executions.accepted_after(started_after)
    if started_before is not None:
        executions = executions.accepted_before(started_before)
    if older_than is not None:
        executions = executions.filter(id__lt=older_than)
    if newer_than is not None:
        executions = executions.filter(id__gt=newer_than)
    order = "-id" if newer_than is None else "id"
    fields = {"project_id": projects, "status": status or None}
    if bead_id is not None:
        return executions.of_bead(bead_id, **fields).order_by(order)[:limit]
    return executions.page(order, limit, **fields)
