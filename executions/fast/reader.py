"""How `fast` reads the database: SQLite on the event loop itself, PostgreSQL in a thread."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections

from executions import prepared

T = TypeVar("T")

# What is remembered at most, in characters: some hundred lists. And what each takes beside its own.
MEMORY = 10_000_000
EACH = 1000


class Reader:
    """Reads on this thread's connection, and remembers nothing."""

    waits = True  # for a server, so that it has to be used in a thread

    def run(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return prepared.run(sql, parameters)

    def remember(
        self, key: tuple[str, ...], read: Callable[[], T], *, size: Callable[[T], int]
    ) -> T:
        """What `read` returns, or has returned for this key if nothing was committed since.

        `size` tells about how many characters that has. What it raises is not remembered.
        """
        return read()


class SqliteReader(Reader):
    """Reads on a connection of its own on which nothing waits: what is locked, others may have."""

    waits = False

    def __init__(self) -> None:
        """To be made in a thread: Django does not connect on an event loop's."""
        self._wrapper = connections.create_connection(DEFAULT_DB_ALIAS)
        self._wrapper.ensure_connection()
        self._execute = self._wrapper.connection.execute
        self._execute("PRAGMA busy_timeout = 0")
        self._execute("PRAGMA query_only = ON")
        self._version: Any = None  # of the database
        self._memory: dict[tuple[str, ...], Any] = {}  # as of that version
        self._room = MEMORY

    def run(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        with self._wrapper.wrap_database_errors:
            return self._execute(to_qmark(sql), parameters).fetchall()

    def remember(
        self, key: tuple[str, ...], read: Callable[[], T], *, size: Callable[[T], int]
    ) -> T:
        # SQLite counts the commits of other connections, and this one makes none.
        version = self.run("PRAGMA data_version", ())
        if version != self._version or self._room < 0:
            self._version, self._memory, self._room = version, {}, MEMORY
        if key in self._memory:
            found: T = self._memory[key]
            return found
        made = self._memory[key] = read()
        self._room -= EACH + sum(map(len, key)) + size(made)
        return made


@functools.lru_cache(maxsize=512)
def to_qmark(sql: str) -> str:
    """With placeholders as the driver of SQLite knows them."""
    return sql % (("?",) * sql.replace("%%", "").count("%s"))


def open_reader() -> Reader:
    return SqliteReader() if prepared.database().vendor == "sqlite" else Reader()
