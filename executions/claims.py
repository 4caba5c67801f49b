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
from django.db.models import ExpressionWrapper, Q
from django.db.models.constants import OnConflict
from django.db.models.functions import Coalesce, Length, Now
from django.db.models.lookups import LessThan

from executions.buffer import Write
from executions.models import Execution, ExecutionQuerySet, OutputChunk
from executions.prepared import Parameter, Prepared
from executions.queue import find_claimable, lock_waiting, running_beside
from executions.transitions import Ending, Transition

Status = Execution.Status
FailureReason = Execution.FailureReason

# Seconds after which a lost worker's container is given up too: no worker at the same Engine,
# the only one that could adopt it, has come back. A reboot takes minutes.
ENGINE_LOST_AFTER = 600

WORKER_LOST = "The worker that ran it was lost: nobody renewed its lease."


def _held() -> ExecutionQuerySet:
    return Execution.objects.held_under(Parameter("token")).filter(pk=Parameter("pk"))


def _lost() -> ExecutionQuerySet:
    return Execution.objects.lease_expired().filter(pk=Parameter("pk"))


def _from_now(seconds: Any) -> ExpressionWrapper:
    """So long from now by the database's clock."""
    return ExpressionWrapper(Now() + seconds, output_field=models.DateTimeField())


_CLAIM: dict[str, Any] = {
    "worker": Parameter("worker"),
    "lease_token": Parameter("token"),
    "lease_expires_at": _from_now(Parameter("lease", models.DurationField())),
}
_claim = Transition(
    lambda: (
        Execution.objects.pending()
        .filter(pk=Parameter("pk"))
        .filter(LessThan(running_beside(), Parameter("concurrency", models.IntegerField())))
    ),
    status=Status.RUNNING,
    engine=Parameter("engine"),
    **_CLAIM,
)
_adopt = Transition(lambda: _lost().filter(lease_token=Parameter("old_token")), **_CLAIM)
_ENDED: dict[str, Any] = {
    name: Parameter(name) for name in ("status", "exit_code", "failure_reason", "error")
}
# What is new with it; null leaves it as it is.
_LAST_NEWS: dict[str, Any] = {
    name: Coalesce(Parameter(name, field), name)
    for name, field in (
        ("running_at", models.DateTimeField()),
        ("output_size", models.BigIntegerField()),
        ("output_left_out", models.BigIntegerField()),
    )
}
_CANCELLED: dict[str, Any] = {"status": Status.CANCELLED, "exit_code": Parameter("exit_code")}
_finish = Ending(lambda: _held().filter(cancel_requested_at=None), **_ENDED, **_LAST_NEWS)
_finish_cancelled = Ending(lambda: _held().cancel_requested(), **_CANCELLED, **_LAST_NEWS)
_lose = Ending(lambda: _lost().filter(cancel_requested_at=None), **_ENDED)
_lose_cancelled = Ending(lambda: _lost().cancel_requested(), **_CANCELLED)

_note_progress = Prepared.update(
    _held,
    running_at=Parameter("running_at"),
    output_size=Parameter("output_size"),
    output_left_out=Parameter("output_left_out"),
)
_store_chunk = Prepared.insert(OutputChunk, on_conflict=OnConflict.IGNORE)

_cancelled = Prepared.select(
    lambda: Execution.objects.running().cancel_requested().values_list("lease_token")
)


def claim_executions(
    *, worker: str, limit: int, lease: float, engine: str | None = None
) -> list[tuple[Execution, uuid.UUID]]:
    """Claim up to `limit` pending executions for a worker, the oldest first.

    None is claimed of a project that has EXECUTION_PROJECT_CONCURRENCY running
    already. Each comes as it was, with the token of its claim, which holds for `lease`
    seconds unless it is renewed. `engine` tells where their containers will be;
    None if they end with the worker.
    """
    claimed: list[tuple[Execution, uuid.UUID]] = []
    tried: set[uuid.UUID] = set()
    terms = {
        "worker": worker,
        "engine": engine,
        "lease": datetime.timedelta(seconds=lease),
        "concurrency": settings.EXECUTION_PROJECT_CONCURRENCY,
    }
    with transaction.atomic(savepoint=False):
        seen_all = False
        while len(claimed) < limit and not seen_all:
            found, seen_all = find_claimable(but=tried)
            if not found:
                break
            for pk in found:
                if len(claimed) == limit:
                    break
                tried.add(pk)
                token = uuid.uuid4()
                execution = lock_waiting(pk)
                if execution is not None and _claim(pk=pk, token=token, **terms):
                    claimed.append((execution, token))
    return claimed


def renew_leases(tokens: Sequence[uuid.UUID], *, lease: float) -> set[uuid.UUID]:
    """Make these claims hold for `lease` seconds from now; those that hold no more are returned."""
    held = Execution.objects.running().filter(lease_token__in=tokens)
    if held.update(lease_expires_at=_from_now(datetime.timedelta(seconds=lease))) == len(tokens):
        return set()
    return set(tokens) - set(held.values_list("lease_token", flat=True))


def cancelled_claims(tokens: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these claims are on executions whose cancel was asked for."""
    return {token for (token,) in _cancelled.fetch()} & set(tokens)


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
    with transaction.atomic(savepoint=False):
        holds = _note_progress.execute(
            pk=execution_id, token=token, running_at=running_at, **_sizes(write)
        )
        if holds:
            _store(execution_id, write)
    return holds == 1


def finish_execution(
    execution_id: uuid.UUID,
    *,
    token: uuid.UUID,
    exit_code: int | None,
    failure_reason: str | None = None,
    error: str | None = None,
    running_at: datetime.datetime | None = None,
    write: Write | None = None,
) -> bool:
    """End a running execution. False if the claim holds no more.

    It has completed with exit code 0 and no `failure_reason`, and failed
    otherwise; another exit code is a reason of its own. `running_at` and
    `write` are what `record_progress` takes; None leaves what is known.
    """
    if failure_reason is None and exit_code != 0:
        failure_reason = FailureReason.EXIT_CODE
        error = f"The command ended with exit code {exit_code}."
    this = {"pk": execution_id, "token": token, "exit_code": exit_code}
    news = {"running_at": running_at, **_sizes(write)}
    status = Status.FAILED if failure_reason else Status.COMPLETED
    with transaction.atomic(savepoint=False):
        # As cancelled, if that was asked for before.
        holds = _finish(
            **this, **news, status=status, failure_reason=failure_reason, error=error
        ) or _finish_cancelled(**this, **news)
        if holds and write is not None:
            _store(execution_id, write)
    return holds


def _sizes(write: Write | None) -> dict[str, int | None]:
    return {
        "output_size": None if write is None else write.size,
        "output_left_out": None if write is None else write.left_out,
    }


def _store(execution_id: uuid.UUID, write: Write) -> None:
    if write.discard is not None:
        start, end = write.discard
        chunks = OutputChunk.objects.filter(execution_id=execution_id)
        chunks.filter(offset__gte=start, offset__lt=end).delete()
    _store_chunk.execute_many(
        {"execution_id": execution_id, "offset": offset, "data": data}
        for offset, data in write.pieces
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
    terms = {"worker": worker, "lease": datetime.timedelta(seconds=lease)}
    for pk, old_token in list(expired.values_list("pk", "lease_token")):
        token = uuid.uuid4()
        if _adopt(pk=pk, old_token=old_token, token=token, **terms):
            adopted.append((Execution.objects.get(pk=pk), token))
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
    ending = {
        "status": Status.FAILED,
        "failure_reason": FailureReason.WORKER_LOST,
        "error": WORKER_LOST,
    }
    return sum(
        _lose(pk=pk, exit_code=None, **ending) or _lose_cancelled(pk=pk, exit_code=None)
        for pk in list(lost.values_list("pk", flat=True))
    )
