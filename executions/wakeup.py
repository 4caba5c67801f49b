"""How a worker hears of a commit at once.

Looking at the database every few milliseconds would wake idle machines all day
long. Instead whoever has committed something for workers rings: on PostgreSQL
with NOTIFY; on SQLite every worker waits on a named pipe of its own in a folder
beside the file, and a byte is written into each. A lost ring costs little:
workers also look now and then unasked.
"""

import contextlib
import os
import selectors
import uuid
from typing import Self

from django.db import DatabaseError, connection, connections, transaction

CHANNEL = "executions"


def ring_on_commit() -> None:
    """Wake every worker of this database once the current transaction is committed."""
    is_postgresql = connection.vendor == "postgresql"
    ring = _note_that_it_rang if is_postgresql else ring_pipes
    if any(ring in due for due in connection.run_on_commit):
        return  # once is enough
    if is_postgresql:
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
    transaction.on_commit(ring, robust=True)


def _note_that_it_rang() -> None:
    """Nothing to do: PostgreSQL has rung with the commit."""


def create_bell() -> "Bell":
    """What one worker waits on. Use it as a context manager."""
    return Listener() if connection.vendor == "postgresql" else NamedPipe()


class Bell:
    """A pipe that somebody writes to."""

    def __enter__(self) -> Self:
        self._readable, self._writable = self._open_pipe()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for descriptor in {self._readable, self._writable}:
            os.close(descriptor)

    def _open_pipe(self) -> tuple[int, int]:
        readable, writable = os.pipe()
        for descriptor in (readable, writable):
            os.set_blocking(descriptor, False)
        return readable, writable

    def fileno(self) -> int:
        """For `selectors`: readable once it was rung."""
        return self._readable

    def ring(self) -> None:
        """Wake this worker alone. Made to be called by a signal handler."""
        with contextlib.suppress(BlockingIOError):  # full: it will wake
            os.write(self._writable, b"!")

    def rang(self) -> bool:
        """Whether others rang, or this worker itself; from here on that is forgotten.

        To be called before each look at the database.
        """
        rang = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._readable, 4096):
                rang = True
        return rang


class Listener(Bell):
    """Rung by NOTIFY, on a connection of its own."""

    def __enter__(self) -> Self:
        super().__enter__()
        # One descriptor for both of them.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._readable, selectors.EVENT_READ)
        self._connection = connections.create_connection(connection.alias)
        self._socket: int | None = None  # while it listens
        self.rang()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._selector.close()
        self._connection.close()
        super().__exit__(*exc_info)

    def fileno(self) -> int:
        return self._selector.fileno()  # it is epoll or kqueue

    def rang(self) -> bool:
        rang = super().rang()
        # Without the database it is silent; the next look tries again.
        with contextlib.suppress(DatabaseError), self._connection.wrap_database_errors:
            if self._socket is not None:
                rang = self._was_notified(self._socket) or rang
        with contextlib.suppress(DatabaseError):
            if self._socket is None:
                self._listen()
                rang = True  # perhaps, while it did not listen
        return rang

    def _listen(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._socket = self._connection.connection.fileno()
        self._selector.register(self._socket, selectors.EVENT_READ)

    def _was_notified(self, socket: int) -> bool:
        own = connection.connection  # on which this worker commits
        own_pid = None if own is None else own.info.backend_pid
        try:
            pids = [each.pid for each in self._connection.connection.notifies(timeout=0)]
        except Exception:
            self._socket = None
            self._selector.unregister(socket)
            self._connection.close()
            raise
        return any(pid != own_pid for pid in pids)


def _folder() -> str:
    return f"{connection.settings_dict['NAME']}-workers"


def _pipes(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in os.listdir(folder) if not name.startswith(".")]


# Of this process, which need not wake itself.
_own_pipes: set[str] = set()


def ring_pipes() -> None:
    """Wake every other worker of this SQLite file. Never waits and never fails."""
    with contextlib.suppress(FileNotFoundError):
        for path in set(_pipes(_folder())) - _own_pipes:
            try:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue  # nobody reads it: its worker was killed, and its next start removes it
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it will wake
                os.write(pipe, b"!")
            os.close(pipe)


class NamedPipe(Bell):
    """Rung by whoever finds it in the folder beside the SQLite file."""

    def _open_pipe(self) -> tuple[int, int]:
        folder, name = _folder(), uuid.uuid4().hex
        os.makedirs(folder, exist_ok=True)
        self._remove_stale(folder)
        self._path, unopened = f"{folder}/{name}", f"{folder}/.{name}"
        os.mkfifo(unopened, mode=0o600)
        # Opened for writing too, so that it never reads as closed between two rings.
        pipe = os.open(unopened, os.O_RDWR | os.O_NONBLOCK)
        _own_pipes.add(self._path)
        os.rename(unopened, self._path)  # only now may others find it: unopened looks like stale
        return pipe, pipe

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        _own_pipes.discard(self._path)
        super().__exit__(*exc_info)

    @staticmethod
    def _remove_stale(folder: str) -> None:
        for path in _pipes(folder):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # ENXIO: nobody has it open for reading
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
