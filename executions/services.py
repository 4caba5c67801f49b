"""What can be done with executions, and the only place that changes a status.

Every change of status is one conditional UPDATE: it names the status, and for
a running execution the claim, that it starts from. One row changed, or it did
not happen and somebody else was first, which callers take as normal.
"""

import codecs
import datetime
import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Count, ExpressionWrapper
from django.db.models.functions import Now
from django.utils import timezone

from executions import wakeup
from executions.ids import new_id, time_of
from executions.models import Execution, ExecutionQuerySet, OutputChunk

Status = Execution.Status
FailureReason = Execution.FailureReason

WORKER_LOST = "The worker that ran it was lost: nobody renewed its lease."


def start_execution(
    *,
    project_id: str,
    bead_id: str,
    context: str | None = None,
    timeout: int | None = None,
    requested_by: Any = None,
) -> Execution:
    """Accept an execution: it is pending, and kept, when this returns.

    `timeout` is in seconds; None takes the default of the settings.
    `requested_by` is a user, or None where access is open.
    """
    identifier = new_id()
    with transaction.atomic():
        execution = Execution.objects.create(
            id=identifier,
            project_id=project_id,
            bead_id=bead_id,
            context=context,
            timeout=settings.EXECUTION_TIMEOUT if timeout is None else timeout,
            requested_by=requested_by,
            started_at=time_of(identifier),
        )
        wakeup.ring_on_commit()
    return execution


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
    project_id: str | None = None,
    bead_id: str | None = None,
    status: Iterable[str] = (),
    started_after: datetime.datetime | None = None,
    started_before: datetime.datetime | None = None,
    older_than: uuid.UUID | None = None,
    newer_than: uuid.UUID | None = None,
) -> ExecutionQuerySet:
    """Executions, newest first; each argument that is given narrows them.

    `newer_than` an id gives the oldest of those first: the nearest to it.
    """
    executions = Execution.objects.select_related("requested_by")
    if project_id is not None:
        executions = executions.filter(project_id=project_id)
    if bead_id is not None:
        executions = executions.filter(bead_id=bead_id)
    if started_after is not None:
        executions = executions.accepted_after(started_after)
    if started_before is not None:
        executions = executions.accepted_before(started_before)
    if older_than is not None:
        executions = executions.filter(id__lt=older_than)
    if newer_than is not None:
        executions = executions.filter(id__gt=newer_than)
    order = "-id" if newer_than is None else "id"
    # A union of one query for each status, since each alone has an index that is in order:
    # the database merges them and stops at the limit, where it would sort all of an IN.
    of_status = [executions.filter(status=each) for each in sorted(set(status))]
    if of_status:
        executions = of_status[0]
    if len(of_status) > 1:
        executions = executions.union(*of_status[1:], all=True)
    return executions.order_by(order)


def read_output_end(execution: Execution, *, limit: int) -> tuple[str | None, bool]:
    """The last `limit` bytes of the output as text, and whether that is not all of it.

    None where nothing has been written. What is not UTF-8 is replaced, never refused.
    """
    if not execution.output_size:
        return None, False
    first = max(execution.output_size - limit, 0)
    chunks = OutputChunk.objects.filter(
        execution=execution, offset__gt=first - CHUNK_SIZE, offset__lt=execution.output_size
    ).order_by("offset")
    text = b"".join(bytes(data) for data in chunks.values_list("data", flat=True))[-limit:]
    cut = first > 0 or execution.output_truncated
    if first > 0:
        text = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", text)  # the rest of a character cut in two
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return decoder.decode(text, final=execution.has_ended), cut


# What workers do

# Bytes of one stored piece at most: small enough to be read one by one, large enough to be few.
CHUNK_SIZE = 64 * 1024


def _transition(execution: ExecutionQuerySet, **changes: Any) -> bool:
    """Change the one execution that is still as `execution` describes it.

    False if there is none: somebody else was first.
    """
    return execution.update(**changes) == 1


def _lease_end(seconds: float) -> ExpressionWrapper:
    """`seconds` from now by the database's clock."""
    return ExpressionWrapper(
        Now() + datetime.timedelta(seconds=seconds), output_field=models.DateTimeField()
    )


def claim_executions(*, worker: str, limit: int, lease: float) -> list[tuple[Execution, uuid.UUID]]:
    """Claim up to `limit` pending executions for a worker, the oldest first.

    None is claimed of a project that has EXECUTION_PROJECT_CONCURRENCY running
    already. Each comes with the token of its claim, which holds for `lease`
    seconds unless it is renewed.
    """
    if limit < 1 or not Execution.objects.pending().exists():
        return []
    claimed: list[tuple[Execution, uuid.UUID]] = []
    with transaction.atomic():
        while len(claimed) < limit and (execution := _next_pending()):
            token = uuid.uuid4()
            if _transition(
                Execution.objects.pending().filter(pk=execution.pk),
                status=Status.RUNNING,
                worker=worker,
                lease_token=token,
                lease_expires_at=_lease_end(lease),
            ):
                claimed.append((execution, token))
    return claimed


def _next_pending() -> Execution | None:
    busy = (
        Execution.objects.running()
        .values("project_id")
        .annotate(running=Count("pk"))
        .filter(running__gte=settings.EXECUTION_PROJECT_CONCURRENCY)
        .values("project_id")
    )
    return Execution.objects.pending().exclude(project_id__in=busy).order_by("id").first()


def renew_leases(tokens: Sequence[uuid.UUID], *, lease: float) -> set[uuid.UUID]:
    """Make these claims hold for `lease` seconds from now; those that hold no more are returned."""
    held = Execution.objects.running().filter(lease_token__in=tokens)
    if held.update(lease_expires_at=_lease_end(lease)) == len(tokens):
        return set()
    return set(tokens) - set(held.values_list("lease_token", flat=True))


def record_progress(
    execution_id: uuid.UUID,
    *,
    token: uuid.UUID,
    running_at: datetime.datetime | None,
    offset: int,
    data: bytes,
) -> bool:
    """Note when it began, and store what it wrote after its first `offset` bytes.

    False if the claim holds no more. Storing the same bytes at the same offset
    again changes nothing, so that a worker may repeat what it does not know to
    have been committed.
    """
    with transaction.atomic():
        held = Execution.objects.held_under(token).filter(pk=execution_id)
        if not held.update(running_at=running_at, output_size=offset + len(data)):
            return False
        OutputChunk.objects.bulk_create(
            (
                OutputChunk(
                    execution_id=execution_id,
                    offset=offset + start,
                    data=data[start : start + CHUNK_SIZE],
                )
                for start in range(0, len(data), CHUNK_SIZE)
            ),
            ignore_conflicts=True,
        )
    return True


def finish_execution(
    execution_id: uuid.UUID,
    *,
    token: uuid.UUID,
    exit_code: int | None,
    failure_reason: str | None = None,
    error: str | None = None,
) -> bool:
    """End a running execution. False if the claim holds no more.

    It has completed with exit code 0 and no `failure_reason`, and failed
    otherwise; another exit code is a reason of its own.
    """
    if failure_reason is None and exit_code != 0:
        failure_reason = FailureReason.EXIT_CODE
        error = f"The command ended with exit code {exit_code}."
    return _end(
        Execution.objects.held_under(token).filter(pk=execution_id),
        status=Status.FAILED if failure_reason else Status.COMPLETED,
        exit_code=exit_code,
        failure_reason=failure_reason,
        error=error,
    )


def fail_lost_executions() -> int:
    """End the executions that no worker holds any more; how many there were."""
    lost = list(Execution.objects.lease_expired().values_list("pk", flat=True))
    return sum(
        _end(
            Execution.objects.lease_expired().filter(pk=pk),
            status=Status.FAILED,
            failure_reason=FailureReason.WORKER_LOST,
            error=WORKER_LOST,
        )
        for pk in lost
    )


def _end(execution: ExecutionQuerySet, *, status: str, **changes: Any) -> bool:
    with transaction.atomic():
        ended = _transition(
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
