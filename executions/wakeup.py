"""How a worker hears of a commit at once: a bell beside the database.

Every worker waits on a named pipe of its own in a folder beside the SQLite
file; whoever has committed something for workers writes a byte into each.
Looking at the database every few milliseconds instead would wake idle
machines all day long. A lost ring costs little: workers also look now and
then unasked.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from django.db import connection, transaction


def _folder() -> Path:
    return Path(f"{connection.settings_dict['NAME']}-workers")


def _pipes(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def ring_on_commit() -> None:
    """Wake every worker once the current transaction is committed."""
    transaction.on_commit(ring, robust=True)


def ring() -> None:
    """Wake every worker of this database. Never waits and never fails."""
    with contextlib.suppress(FileNotFoundError):
        for path in _pipes(_folder()):
            try:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue  # nobody reads it: its worker was killed, and its next start removes it
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it will wake
                os.write(pipe, b"!")
            os.close(pipe)


class Bell:
    """What one worker waits on. Use it as a context manager."""

    def __enter__(self) -> "Bell":
        folder = _folder()
        folder.mkdir(exist_ok=True)
        self._remove_stale(folder)
        self._path = folder / uuid.uuid4().hex
        unopened = folder / f".{self._path.name}"
        os.mkfifo(unopened, mode=0o600)
        # Opened for writing too, so that it never reads as closed between two rings.
        self._pipe = os.open(unopened, os.O_RDWR | os.O_NONBLOCK)
        unopened.rename(self._path)  # only now may others find it: unopened looks like stale
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._pipe)

    def fileno(self) -> int:
        """For `selectors`: readable once it was rung."""
        return self._pipe

    def ring(self) -> None:
        """Wake this worker alone."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._pipe, b"!")

    def clear(self) -> None:
        """Forget the rings so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._pipe, 4096):
                pass

    @staticmethod
    def _remove_stale(folder: Path) -> None:
        for path in _pipes(folder):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # ENXIO: nobody has it open for reading
                path.unlink(missing_ok=True)
