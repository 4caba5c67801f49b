"""System checks: each wrong setting is told by its name before anything starts."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import connection

from executions.runners.launch import split_command

OURS = "executions"  # the tag of what is checked here

# The ids stay with their settings: an operator may have silenced one.
IDS = {
    "PORT": "E001",
    "DATA_DIR": "E002",
    "DEBUG": "E003",
    "ALLOWED_HOSTS": "E004",
    "SECRET_KEY": "E005",
    "DATABASE_URL": "E006",
    "OPEN_ACCESS": "E007",
    "HTTPS_ONLY": "E008",
    "SECURE_PROXY_SSL_HEADER": "E009",
    "EXECUTION_RUNNER": "E010",
    "EXECUTION_COMMAND": "E011",
    "EXECUTION_ENV": "E012",
    "EXECUTION_WORKSPACES": "E013",
    "EXECUTION_TIMEOUT": "E014",
    "EXECUTION_PROJECT_CONCURRENCY": "E015",
    "WORKER_CONCURRENCY": "E016",
    "WORKER_LEASE": "E017",
    "WORKER_HEARTBEAT": "E018",
    "EXECUTION_GRACE_PERIOD": "E019",
    ".env": "E020",
    "EXECUTION_OUTPUT_LIMIT": "E021",
    "STREAM_LIMIT": "E022",
    "EXECUTION_IMAGE": "E023",
    "EXECUTION_MEMORY": "E024",
    "EXECUTION_CPUS": "E025",
    "EXECUTION_PIDS": "E026",
    "EXECUTION_NETWORK": "E027",
    "EXECUTION_USER": "E028",
    "EXECUTION_READ_ONLY": "E029",
    "LOG_FORMAT": "E030",
    "PROXY_ADDRESS_HEADER": "E031",
    "THROTTLE_CHANGES": "E032",
    "THROTTLE_LOGINS": "E033",
}


@register(OURS)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Report what `config/settings.py` could not understand, and what can't work together."""
    unreadable = [
        _error(name, " ".join(sentences)) for name, sentences in settings.SETTINGS_ERRORS.items()
    ]
    return [*unreadable, *_check_meaning()]


def _check_meaning() -> Iterator[CheckMessage]:
    try:
        split_command(settings.EXECUTION_COMMAND)
    except ValueError as error:
        yield _error("EXECUTION_COMMAND", str(error))
    for variable in settings.EXECUTION_ENV:
        if not variable.isidentifier():
            yield _error("EXECUTION_ENV", f"{variable!r} is not the name of a variable.")
    if settings.EXECUTION_RUNNER == "docker" and not settings.EXECUTION_IMAGE:
        yield _error("EXECUTION_IMAGE", "Containers need the name of an image.")
    if connection.vendor == "postgresql":
        driver: Any = connection.Database  # type: ignore[attr-defined]  # psycopg
        options = dict(settings.DATABASES["default"]["OPTIONS"])
        for name in ("server_side_binding", "prepare_threshold"):  # no options of the server's
            options.pop(name)
        try:
            driver.conninfo.make_conninfo(**options)
        except driver.ProgrammingError as error:
            yield _error("DATABASE_URL", f"It has an {str(error).strip()}.")
    workspaces = settings.EXECUTION_WORKSPACES
    if workspaces is not None and not workspaces.is_dir():
        yield _error("EXECUTION_WORKSPACES", f"{workspaces} is not a folder.")
    if settings.WORKER_HEARTBEAT > settings.WORKER_LEASE / 2:
        yield _error("WORKER_HEARTBEAT", "It has to be at most half of WORKER_LEASE.")


def _error(name: str, sentence: str) -> Error:
    return Error(f"{name}: {sentence}", id=f"executions.{IDS[name]}")
