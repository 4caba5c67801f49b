"""Which of the waiting executions come next.

The oldest first, and of each project no more than may run at a time. However many wait, and
however many of them belong to busy projects, finding out takes about the same.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, Count, Func, OuterRef, Subquery
from django.db.models.functions import Coalesce

from executions import wakeup
from executions.models import Execution, ExecutionQuerySet
from executions.prepared import Parameter, Prepared

# Waiting executions that a claim looks at, oldest first, before it goes by their projects.
WINDOW = 10


def running_beside() -> Any:
    """How many executions of its project are running, of an execution that is asked for."""
    of_project = Execution.objects.running().filter(project_id=OuterRef("project_id")).order_by()
    count = of_project.values("project_id").annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(count), 0)


_waiting = Prepared.select(
    lambda: (
        Execution.objects.pending()
        .order_by("id")
        .values_list("pk", "project_id", running_beside())[:WINDOW]
    )
)

# The oldest waiting execution of each project, found by jumping from project to project: however
# many wait, it takes as long as there are projects with one.
_HEADS = """
    WITH RECURSIVE project(id) AS (
        SELECT min(project_id) FROM executions_execution{hint} WHERE status = 'pending'
        UNION ALL
        SELECT (
            SELECT min(project_id) FROM executions_execution{hint}
            WHERE status = 'pending' AND project_id > project.id
        ) FROM project WHERE project.id IS NOT NULL
    )
    SELECT (
        SELECT id FROM executions_execution{hint}
        WHERE status = 'pending' AND project_id = project.id ORDER BY id LIMIT 1
    ) AS head, project.id, (
        SELECT count(*) FROM executions_execution
        WHERE status = 'running' AND project_id = project.id
    )
    FROM project WHERE project.id IS NOT NULL ORDER BY head
"""


class ProjectLock(Func):
    """Whether nobody else is claiming of this project; from here to the commit nobody else can."""

    template = "pg_try_advisory_xact_lock(hashtextextended(%(expressions)s, 0))"
    output_field = BooleanField()


def _lockable() -> ExecutionQuerySet:
    found = Execution.objects.pending().filter(pk=Parameter("pk"))
    if connection.vendor == "postgresql":
        # Where several claim at once. What another is cancelling is passed over, too.
        return found.filter(ProjectLock("project_id")).select_for_update(skip_locked=True)
    return found


FIELDS = [field.attname for field in Execution._meta.concrete_fields]
_locked = Prepared.select(lambda: _lockable().values_list(*FIELDS))

Waiting = tuple[uuid.UUID, str, int]  # an execution, its project, and how many of that are running


def find_claimable(*, but: Collection[uuid.UUID]) -> tuple[list[uuid.UUID], bool]:
    """Waiting executions that may be claimed, except some, and whether there are no others."""
    waiting: list[Waiting] = _waiting.fetch()
    seen_all = len(waiting) < WINDOW
    found = [pk for pk in _with_room(waiting) if pk not in but]
    if not found and not seen_all:
        found = [pk for pk in _with_room(_read_heads()) if pk not in but]
    return found, seen_all


def lock_waiting(pk: uuid.UUID) -> Execution | None:
    """One of them, and its project, until the commit; None if somebody else has it.

    Whether its project has room has to be asked once more by the claim itself. On SQLite nothing
    need be locked: nobody else writes.
    """
    rows = _locked.fetch(pk=pk)
    if settings.EXECUTION_PROJECT_CONCURRENCY > 1 and connection.vendor == "postgresql":
        wakeup.ring_on_commit()  # whoever has passed its project over meanwhile
    return Execution.from_db(connection.alias, FIELDS, rows[0]) if rows else None


def _with_room(waiting: Iterable[Waiting]) -> list[uuid.UUID]:
    """Those of them whose projects have room for them."""
    chosen: Counter[str] = Counter()
    found = []
    for pk, project_id, running in waiting:
        if running + chosen[project_id] < settings.EXECUTION_PROJECT_CONCURRENCY:
            chosen[project_id] += 1
            found.append(pk)
    return found


def _read_heads() -> list[Waiting]:
    with connection.cursor() as cursor:
        # SQLite would take a larger index, with what waits no more.
        hint = " INDEXED BY execution_pending" if connection.vendor == "sqlite" else ""
        cursor.execute(_HEADS.format(hint=hint))
        return [(uuid.UUID(str(pk)), *others) for pk, *others in cursor.fetchall()]
