"""What the settings make of an execution: where it runs, and what is started."""

import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from executions.models import Execution, Installation
from executions.runners.base import Launch, Runner
from executions.runners.launch import (
    fill_arguments,
    find_workspace,
    pass_through,
    split_command,
)
from executions.runners.process import ProcessRunner


def create_runner() -> Runner:
    """The runner that EXECUTION_RUNNER names. Raises EngineAway without a Docker Engine."""
    if settings.EXECUTION_RUNNER == "process":
        return ProcessRunner()
    docker = _load_docker()
    options = docker.ContainerOptions(
        image=settings.EXECUTION_IMAGE,
        memory=settings.EXECUTION_MEMORY,
        cpus=settings.EXECUTION_CPUS,
        pids=settings.EXECUTION_PIDS,
        network=settings.EXECUTION_NETWORK,
        user=settings.EXECUTION_USER,
        read_only=settings.EXECUTION_READ_ONLY,
    )
    return docker.DockerRunner(options, installation=identify_installation())


def _load_docker() -> Any:
    """The Docker runner. Not loaded before: without it a worker is smaller by a tenth."""
    from executions.runners import docker  # noqa: PLC0415

    return docker


def find_runner_fault() -> str | None:
    """Why nothing could be started, in one line; None if it can."""
    if settings.EXECUTION_RUNNER == "docker":
        return _load_docker().find_fault(settings.EXECUTION_IMAGE)
    return None


def identify_installation() -> str:
    """The same for all workers of this database, and for no worker of another."""
    identity = Installation.objects.get().pk
    # A copy, such as a backup that is tried out, is another installation: it lies elsewhere. But
    # not a physical copy of a PostgreSQL server, which may have taken the first one's place.
    if connection.vendor == "sqlite":
        place = str(Path(connection.settings_dict["NAME"]).resolve())
    else:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT system_identifier || '/' || oid FROM pg_control_system(), pg_database "
                "WHERE datname = current_database()"
            )
            [place] = cursor.fetchone()
    return str(uuid.uuid5(identity, place))


def build_launch(execution: Execution, token: uuid.UUID) -> Launch:
    """What is to be started under the claim `token`. Raises StartError if that can't be."""
    words = {
        "project_id": execution.project_id,
        "bead_id": execution.bead_id,
        "context": execution.context or "",
    }
    own = {name.upper(): value for name, value in words.items()}
    return Launch(
        execution_id=str(execution.pk),
        claim=str(token),
        argv=fill_arguments(split_command(settings.EXECUTION_COMMAND), words),
        environment=pass_through(settings.EXECUTION_ENV)
        | {"EXECUTION_ID": str(execution.pk), **own},
        workspace=find_workspace(settings.EXECUTION_WORKSPACES, execution.project_id),
    )
