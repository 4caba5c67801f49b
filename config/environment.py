"""How settings are read from the environment, or else from `.env`.

A value that can't be understood never raises here. It is collected in
`SETTINGS_ERRORS`, which the system checks (`executions/checks.py`) turn into
errors before anything starts; until then its safe default stands in.
"""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import dj_database_url
from environs import Env, EnvValidationError, validate

BASE_DIR = Path(__file__).resolve().parent.parent

POSTGRESQL = "django.db.backends.postgresql"
POSTGRESQL_OPTIONS = {
    "connect_timeout": 5,  # seconds; then the API says 503
    # Statements that are asked all the time are planned once.
    "server_side_binding": True,
    "prepare_threshold": 5,
    "tcp_user_timeout": 10_000,  # milliseconds after which a peer that is silent is given up
    "options": (
        # A process that is suspended must not hold up the others for longer than this (ms).
        "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000"
        # Disks have no heads to move any more. With the default of 4 a list of a project would
        # rather be found by reading everybody's executions than by the project's own index.
        " -c random_page_cost=1.1"
    ),
}
SQLITE_OPTIONS = {
    # Take the write lock at BEGIN: a transaction that reads first and writes later could not
    # wait for it and would fail as "locked".
    "transaction_mode": "IMMEDIATE",
    "timeout": 5,  # seconds to wait for the lock; then the API says 503
    # FULL, since a 201 is kept through a power cut too.
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;"
        "PRAGMA mmap_size=134217728; PRAGMA journal_size_limit=67108864;"
    ),
}
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

# What is wrong with the environment: a variable's name, and one sentence for each fault.
SETTINGS_ERRORS: dict[str, list[str]] = {}

try:
    Env().read_env(str(BASE_DIR / ".env"), recurse=False)
except (OSError, ValueError):
    SETTINGS_ERRORS[".env"] = ["It can't be read as UTF-8 text."]


def setting(kind: str, name: str, default: Any, **options: Any) -> Any:
    """Read the variable `name` with the parser `kind` of environs.

    Unset and empty give the default. So does a value that does not fit, which
    is kept in `SETTINGS_ERRORS`.
    """
    if not os.environ.get(name):
        return default
    reader = Env(eager=False)
    value = getattr(reader, kind)(name, **options)
    try:
        reader.seal()
    except EnvValidationError as error:
        messages = error.error_messages  # by variable, of which there is one
        SETTINGS_ERRORS[name] = messages if isinstance(messages, list) else messages[name]
        return default
    return value


def names(name: str, default: list[str]) -> list[str]:
    """A list whose items are separated by commas, and perhaps by spaces."""
    items = setting("list", name, default, subcast=str.strip)
    return [item for item in items if item]


def rate(name: str, default: str) -> tuple[int, int]:
    """Such as `600/minute`: how many, in how many seconds."""
    shape = validate.Regexp(
        rf"^[1-9]\d{{0,5}}/({'|'.join(SECONDS)})\Z",
        error=f"It has to be a number/{', '.join(SECONDS)}, such as {default}.",
    )
    count, _, unit = setting("str", name, default, validate=shape).partition("/")
    return int(count), SECONDS[unit]


def database(url: str, *, data_dir: Path) -> dict[str, Any]:
    """Django's settings of the database that `url` names; SQLite in `data_dir` if it is empty."""
    embedded = f"sqlite:///{data_dir / 'executions.sqlite3'}"
    try:
        parsed = dj_database_url.parse(url or embedded, conn_max_age=None)
        fault = fault_of_database(parsed) if url else None
    except ValueError:  # in the library's words, which may repeat the password that the URL holds
        fault = "It has to be of the form sqlite:////path/to/file or postgres://user@host/name."
    if fault is not None:
        SETTINGS_ERRORS["DATABASE_URL"] = [fault]
        parsed = dj_database_url.parse(embedded, conn_max_age=None)
    if parsed["ENGINE"] == POSTGRESQL:
        # A request looks first whether the connection that it takes over is still there.
        parsed["CONN_HEALTH_CHECKS"] = True
        return {**parsed, "OPTIONS": POSTGRESQL_OPTIONS | parsed.get("OPTIONS", {})}
    # A file for the tests, since they also write from several threads and processes.
    return {**parsed, "OPTIONS": SQLITE_OPTIONS, "TEST": {"NAME": str(data_dir / "test.sqlite3")}}


def fault_of_database(parsed: Any) -> str | None:
    """What is wrong with the settings of a database, in one sentence; None if it can be used."""
    if parsed["ENGINE"] == POSTGRESQL:
        return None if parsed["NAME"] else "It names no database."
    if parsed["ENGINE"] != "django.db.backends.sqlite3":
        return "Only SQLite and PostgreSQL can be used."
    path = Path(parsed["NAME"])
    if not path.is_absolute():
        return "It has to name a file, as sqlite:////path/to/file."
    return None if path.parent.is_dir() else f"{path.parent} is not a folder."


def secret_key(data_dir: Path) -> str:
    """The key kept in `data_dir`, made at the first start, readable by its owner only."""
    path = data_dir / "secret_key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f"secret_key.{os.getpid()}")
            fresh.touch(mode=0o600)
            with fresh.open("w") as file:
                file.write(secrets.token_urlsafe(50))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)  # whole or not at all, and the first of two wins
            fresh.unlink()
        if key := path.read_text("ascii").strip():
            return key
        SETTINGS_ERRORS["SECRET_KEY"] = [f"{path} is empty. Remove it for a new one."]
    except OSError as error:
        SETTINGS_ERRORS["DATA_DIR"] = [f"{error.strerror}: {error.filename}"]
    except UnicodeDecodeError:
        SETTINGS_ERRORS["SECRET_KEY"] = [f"{path} is not text. Remove it for a new one."]
    return secrets.token_urlsafe(50)
