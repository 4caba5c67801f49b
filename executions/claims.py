"""What a worker does with executions: claims them, keeps its claims, and ends what it claimed.

Whatever is written under a claim is conditional on its token: a worker that
slept through its lease changes nothing.
"""

import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Count, ExpressionWrapper, Q
from django.db.models.functions import Length, Now

from executions.buffer import Write
from executions.models import Execution, ExecutionQuerySet, OutputChunk
from executions.transitions import end, transition

Status = Execution.Status
FailureReason = Execution.FailureReason

# Seconds after which a lost worker's container is given up too: no worker at the same Engine,
# the only one that could adopt it, has come back. A reboot takes minutes.
ENGINE_LOST_AFTER = 600

WORKER_LOST = "The worker that ran it was lost: nobody renewed its lease."


def _lease_end(seconds: float) -> ExpressionWrapper:
    """`seconds` from now by the database's clock."""
    return ExpressionWrapper(
        Now() + datetime.timedelta(seconds=seconds), output_field=models.DateTimeField()
    )


def claim_executions(
    *, worker: str, limit: int, lease: float, engine: str | None = None
) -> list[tuple[Execution, uuid.UUID]]:
    """Claim up to `limit` pending executions for a worker, the oldest first.

    None is claimed of a project that has EXECUTION_PROJECT_CONCURRENCY running
    already. Each comes with the token of its claim, which holds for `lease`
    seconds unless it is renewed. `engine` tells where their containers will be;
    None if they end with the worker.
    """
    if limit < 1 or not Execution.objects.pending().exists():
        return []
    claimed: list[tuple[Execution, uuid.UUID]] = []
    with transaction.atomic():
        while len(claimed) < limit and (execution := _next_pending()):
            token = uuid.uuid4()
            if transition(
                Execution.objects.pending().filter(pk=execution.pk),
                status=Status.RUNNING,
                worker=worker,
                engine=engine,
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


def cancelled_claims(tokens: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these claims are on executions whose cancel was asked for."""
    held = Execution.objects.running().filter(lease_token__in=tokens)
    cancelled = held.cancel_requested().values_list("lease_token", flat=True)
    return set(tokens) & set(cancelled)


def record_progress(
    execution_id: uuid.UUID,
    *,
    token: uuid.UUID,
    running_at: datetime.datetime | None,
    write: Write,
) -> bool:
    """Note when it began, and store what it wrote. False if the claim holds no more.

    The same write again changes nothing, so that a worker may repeat what it
    does not know to have been committed.
    """
    chunks = OutputChunk.objects.filter(execution_id=execution_id)
    with transaction.atomic():
        held = Execution.objects.held_under(token).filter(pk=execution_id)
        if not held.update(
            running_at=running_at, output_size=write.size, output_left_out=write.left_out
        ):
            return False
        if write.discard is not None:
            chunks.filter(offset__gte=write.discard[0], offset__lt=write.discard[1]).delete()
        OutputChunk.objects.bulk_create(
            (
                OutputChunk(execution_id=execution_id, offset=offset, data=data)
                for offset, data in write.pieces
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
    return _end_running(
        Execution.objects.held_under(token).filter(pk=execution_id),
        exit_code=exit_code,
        status=Status.FAILED if failure_reason else Status.COMPLETED,
        failure_reason=failure_reason,
        error=error,
    )


def release_claims(tokens: Sequence[uuid.UUID]) -> None:
    """Let others adopt these executions at once."""
    Execution.objects.running().filter(lease_token__in=tokens).update(lease_expires_at=Now())


def adopt_executions(
    *, worker: str, engine: str, lease: float, but: Sequence[uuid.UUID] = ()
) -> list[tuple[Execution, uuid.UUID]]:
    """Take over the executions at this engine that no worker holds any more.

    As with `claim_executions`, each comes with the token of its new claim, and
    as its last worker has left it. `but` are the caller's own claims: when the
    clock has jumped, or the machine has slept, it is there to renew them.
    """
    expired = Execution.objects.lease_expired().filter(engine=engine).exclude(lease_token__in=but)
    adopted = []
    for execution in list(expired):
        token = uuid.uuid4()
        held = Execution.objects.lease_expired().held_under(execution.lease_token)
        if transition(
            held.filter(pk=execution.pk),
            worker=worker,
            lease_token=token,
            lease_expires_at=_lease_end(lease),
        ):
            execution.refresh_from_db()
            adopted.append((execution, token))
    return adopted


def stored_pieces(execution_id: uuid.UUID) -> list[tuple[int, int]]:
    """Where each piece of its output that is stored begins and ends, in their order."""
    pieces = OutputChunk.objects.filter(execution_id=execution_id).order_by("offset")
    found = pieces.values_list("offset", Length("data")).iterator()
    return [(offset, offset + length) for offset, length in found]


def running_among(execution_ids: Sequence[str]) -> set[str]:
    """Which of these executions are running."""
    running = Execution.objects.running().filter(pk__in=execution_ids)
    return {str(pk) for pk in running.values_list("pk", flat=True)}


def fail_lost_executions(*, but: Sequence[uuid.UUID] = ()) -> int:
    """End the executions that no worker holds any more, nor can adopt; how many there were.

    `but` are the caller's own claims, as in `adopt_executions`.
    """
    expired = Execution.objects.lease_expired().exclude(lease_token__in=but)
    unadopted = Now() - datetime.timedelta(seconds=ENGINE_LOST_AFTER)
    lost = expired.filter(Q(engine=None) | Q(lease_expires_at__lt=unadopted))
    return sum(
        _end_running(
            Execution.objects.lease_expired().filter(pk=pk),
            exit_code=None,
            status=Status.FAILED,
            failure_reason=FailureReason.WORKER_LOST,
            error=WORKER_LOST,
        )
        for pk in list(lost.values_list("pk", flat=True))
    )


def _end_running(execution: ExecutionQuerySet, *, exit_code: int | None, **ending: Any) -> bool:
    """End it as cancelled if that was asked for before, and as `ending` says otherwise."""
    uncancelled = execution.filter(cancel_requested_at=None)
    return end(uncancelled, exit_code=exit_code, **ending) or end(
        execution.cancel_requested(), exit_code=exit_code, status=Status.CANCELLED
    )
