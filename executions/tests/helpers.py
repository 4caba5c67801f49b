"""What several tests do: executions without a worker, users, and a worker that only wakes."""

import sys
import uuid
from typing import Any

from django.contrib.auth.models import Group, User

from executions import claims
from executions.buffer import CHUNK_SIZE, Write
from executions.models import Execution, ProjectLimit
from executions.tests.installation import Installation, wait_for


def write_output(
    execution: Execution,
    token: uuid.UUID | None,
    data: bytes,
    *,
    offset: int = 0,
    left_out: int = 0,
) -> bool:
    """Store `data` as what it wrote after its first `offset` bytes; whether the claim holds."""
    starts = range(0, len(data), CHUNK_SIZE)
    pieces = [(offset + start, data[start : start + CHUNK_SIZE]) for start in starts]
    write = Write(
        size=offset + len(data), left_out=left_out, pieces=pieces, discard=None, is_last=False
    )
    claim: dict[str, Any] = {"token": token or uuid.uuid4(), "running_at": None}
    return claims.record_progress(execution.pk, write=write, **claim)


def make_user(name: str, *roles: str, projects: list[str] | None = None, **fields: Any) -> User:
    """A user with these roles, limited to `projects` if they are given, without a password."""
    user = User.objects.create_user(name, **fields)
    user.groups.set([Group.objects.get(name=role) for role in roles])
    if projects is not None:
        ProjectLimit.objects.create(user=user, projects=projects)
    return user


DEAF_BUT_FOR_THE_BELL = """
import django
django.setup()
from django.core.management import call_command
from executions import worker
worker.LOOK_INTERVAL = worker.SWEEP_INTERVAL = 1000
call_command("run_worker", name="w")
"""


def start_deaf_worker(service: Installation) -> None:
    """A worker that looks at the database only when a bell tells it to."""
    service.start(
        *(sys.executable, "-c", DEAF_BUT_FOR_THE_BELL),
        DJANGO_SETTINGS_MODULE="config.settings",
        EXECUTION_COMMAND="sh -c 'eval \"$CONTEXT\"'",
        WORKER_LEASE="3000",
        WORKER_HEARTBEAT="1000",
    )
    wait_for(lambda: "Worker w is ready" in service.printed)
