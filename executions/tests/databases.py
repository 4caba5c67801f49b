"""The database of a service under test: on PostgreSQL where DATABASE_URL names it, else SQLite."""

import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
from environs import Env

# What everything runs on, as in the settings: SQLite where it is not set.
URL = Env().str("DATABASE_URL", "")
IS_POSTGRESQL = URL.startswith("postgres")


class Database(Protocol):
    url: str  # for DATABASE_URL; empty where a service finds it by itself

    def create(self, template: "Database | None") -> None:
        """Empty, or a copy of another that nobody uses at the moment."""

    def drop(self) -> None: ...

    def connect(self) -> Any:
        """A connection of the database's driver, each statement a transaction of its own."""

    def query(self, sql: str) -> list[Any]: ...

    def execute(self, sql: str) -> None: ...

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else can write."""

    def has_waiting(self) -> bool:
        """Whether somebody is in the middle of a transaction, waiting for `locked` to end."""

    def dump(self) -> bytes:
        """Everything that it holds."""


class SqliteDatabase:
    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "executions.sqlite3"
        self.url = ""

    def create(self, template: Database | None) -> None:
        if isinstance(template, SqliteDatabase):
            shutil.copy(template.path, self.path)

    def drop(self) -> None:
        """It goes with its folder."""

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, timeout=30)

    def query(self, sql: str) -> list[Any]:
        with contextlib.closing(self.connect()) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        with contextlib.closing(self.connect()) as connection:
            connection.execute(sql)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with contextlib.closing(self.connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    def has_waiting(self) -> bool:
        return False  # a transaction begins with the lock

    def dump(self) -> bytes:
        files = self.path.parent.glob(f"{self.path.name}*")
        return b"".join(each.read_bytes() for each in files if each.is_file())


class PostgresqlDatabase:
    def __init__(self, server: str) -> None:
        self.server = server  # the URL of any of its databases
        self.name = f"executions_{uuid.uuid4().hex}"
        self.url = urlsplit(server)._replace(path=f"/{self.name}").geturl()

    def create(self, template: Database | None) -> None:
        origin = urlsplit(template.url).path[1:] if template else "template1"
        self._administrate(f"CREATE DATABASE {self.name} TEMPLATE {origin}")

    def drop(self) -> None:
        self._administrate(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def query(self, sql: str) -> list[Any]:
        with self.connect() as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        with self.connect() as connection:
            connection.execute(sql)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self.connect() as connection, connection.transaction():
            connection.execute("LOCK executions_execution IN EXCLUSIVE MODE")
            yield

    def has_waiting(self) -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
        return self.query(waiting) != [(0,)]

    def dump(self) -> bytes:
        tables = self.query("SELECT relname FROM pg_stat_user_tables")
        rows = [row for (table,) in tables for row in self.query(f"SELECT t::text FROM {table} t")]
        return "\n".join(text for (text,) in rows).encode()

    def _administrate(self, sql: str) -> None:
        url = urlsplit(self.server)._replace(path="/postgres").geturl()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql)


def describe_database(data_dir: Path, url: str = URL) -> Database:
    """A database of a service in this folder, on the server that `url` names; still to be made."""
    is_postgresql = url.startswith("postgres")
    return PostgresqlDatabase(url) if is_postgresql else SqliteDatabase(data_dir)
