"""Which of the waiting executions come next.

The oldest first, and of each project no more than may run at a time. However many wait, and
however many of them belong to busy projects, finding out takes about the same.
"""

import uuid
from collections import Counter
from collections.abc import Iterable

from django.conf import settings
from django.db import connection
from django.db.models import Count

from executions import wakeup
from executions.models import Execution
from executions.prepared import Prepared

# Waiting executions that a claim looks at, oldest first, before it goes by their projects.
WINDOW = 50

_waiting = Prepared.select(
    lambda: Execution.objects.pending().order_by("id").values_list("pk", "project_id")[:WINDOW]
)
_running = Prepared.select(
    lambda: Execution.objects.running().values_list("project_id").annotate(running=Count("pk"))
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
    ) AS head, project.id
    FROM project WHERE project.id IS NOT NULL ORDER BY head
"""

# PostgreSQL only, where several claim at once: who claims of a project keeps others off it until
# the commit, and whoever comes meanwhile passes it over, as an execution that is being cancelled.
_LOCK = """
    SELECT execution.id
    FROM unnest(%s::uuid[], %s::text[]) AS wanted(id, project_id)
    JOIN executions_execution execution ON execution.id = wanted.id
    WHERE execution.status = 'pending'
        AND pg_try_advisory_xact_lock(hashtextextended(wanted.project_id, 0))
    FOR UPDATE OF execution SKIP LOCKED
"""

Waiting = tuple[uuid.UUID, str]  # an execution and its project


def find_claimable(limit: int) -> tuple[list[Waiting], bool]:
    """Waiting executions that may be claimed, and whether there are no others."""
    waiting: list[Waiting] = _waiting.fetch()
    seen_all = len(waiting) < WINDOW
    found = _with_room(waiting)[:limit] if waiting else []
    if not found and not seen_all:
        found = _with_room(_read_heads())[:limit]
    if found and connection.vendor == "postgresql":
        found = _with_room(_lock(found))
    return found, seen_all


def _with_room(waiting: Iterable[Waiting]) -> list[Waiting]:
    """Those of them whose projects have room for them."""
    running = Counter(dict(_running.fetch()))
    found = []
    for pk, project_id in waiting:
        if running[project_id] < settings.EXECUTION_PROJECT_CONCURRENCY:
            running[project_id] += 1
            found.append((pk, project_id))
    return found


def _read_heads() -> list[Waiting]:
    with connection.cursor() as cursor:
        # SQLite would take a larger index, with what waits no more.
        hint = " INDEXED BY execution_pending" if connection.vendor == "sqlite" else ""
        cursor.execute(_HEADS.format(hint=hint))
        return [(uuid.UUID(str(pk)), project_id) for pk, project_id in cursor.fetchall()]


def _lock(found: list[Waiting]) -> list[Waiting]:
    """Those of them that nobody else is claiming or cancelling at the moment."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [list(column) for column in zip(*found, strict=True)])
        locked = {pk for (pk,) in cursor.fetchall()}
    if settings.EXECUTION_PROJECT_CONCURRENCY > 1:
        wakeup.ring_on_commit()  # whoever has passed these projects over meanwhile
    return [each for each in found if each[0] in locked]
