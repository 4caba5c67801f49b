"""Removing what ended long ago."""

import datetime
import uuid
from collections.abc import Iterable, Iterator

from django.db import transaction

from executions.models import Execution, OutputChunk

# What one transaction removes at most, so that it holds SQLite's one lock only for moments.
BATCH_EXECUTIONS = 100
BATCH_BYTES = 8 * 1024 * 1024


def prune_executions(
    *, before: datetime.datetime, status: Iterable[str], dry_run: bool = False
) -> Iterator[int]:
    """Remove executions of these statuses that ended before then; how many, batch by batch.

    An execution that is larger than a batch loses its output in several
    transactions, from its end on, and goes with the last.
    """
    statuses = list(status)
    position = uuid.UUID(int=0)
    while batch := list(
        Execution.objects.accepted_before(before)
        .filter(id__gt=position)
        .order_by("id")
        .values_list("pk", "status", "completed_at", "output_size")[:BATCH_EXECUTIONS]
    ):
        position = batch[-1][0]
        old = [
            (pk, size)
            for pk, its_status, completed_at, size in batch
            if its_status in statuses and completed_at is not None and completed_at < before
        ]
        if not dry_run:
            _remove(old)
        yield len(old)


def _remove(executions: list[tuple[uuid.UUID, int]]) -> None:
    small = [pk for pk, size in executions if size <= BATCH_BYTES // BATCH_EXECUTIONS]
    large = [pk for pk, size in executions if size > BATCH_BYTES // BATCH_EXECUTIONS]
    _remove_at_once(small)
    for pk in large:
        chunks = OutputChunk.objects.filter(execution_id=pk)
        while last := list(chunks.order_by("-offset").values_list("offset", flat=True)[:100]):
            chunks.filter(offset__gte=last[-1]).delete()
        _remove_at_once([pk])


def _remove_at_once(ids: list[uuid.UUID]) -> None:
    with transaction.atomic():
        OutputChunk.objects.filter(execution_id__in=ids).delete()
        Execution.objects.filter(pk__in=ids, status__in=Execution.ENDED).delete()
