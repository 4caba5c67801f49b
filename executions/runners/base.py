"""What a runner is: the one thing that starts, follows and stops executions.

Runners know nothing of Django, of rows or of leases. A worker hands them a
`Launch` and gets an `Attempt` that it can wait on with `selectors`.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


class StartError(Exception):
    """It could not be started; the message is a sentence that a person understands."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What is to be started for one execution."""

    execution_id: str
    claim: str  # differs from that of every other attempt
    argv: Sequence[str]
    environment: Mapping[str, str]  # nothing else of the worker's own gets in
    workspace: Path | None  # None: an empty temporary folder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    # What the command ended with; 128 and the signal's number if a signal ended it,
    # as a shell has it. None if it never began or its end is not known.
    exit_code: int | None
    # Why it failed for another reason than its exit code, with one sentence.
    failure_reason: Literal["start_error", "out_of_memory", "worker_lost"] | None = None
    error: str | None = None
    # When the process or container began and ended, where the runner knows it.
    running_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None

    @property
    def duration(self) -> float | None:
        """Seconds from beginning to end; None where the runner does not know them."""
        if self.running_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.running_at).total_seconds()


class Attempt(Protocol):
    """One process or container. Only its own methods ever wait, and none of them long."""

    #: When the process or container began; None until it has.
    running_at: datetime.datetime | None
    #: How it ended; None until it has. Output may be left to read then.
    outcome: Outcome | None

    def event_fileno(self) -> int:
        """A file descriptor that is readable when `follow` has something to do."""

    def output_fileno(self) -> int:
        """A file descriptor that is readable when there is output, or no more to come."""

    def follow(self) -> None:
        """Bring `running_at` and `outcome` up to date."""

    def read_output(self, size: int) -> bytes | None:
        """At most `size` bytes of output; None when there is none now, b"" after the last."""

    def stop(self, *, force: bool) -> None:
        """Ask everything that it started to end (SIGTERM), or end it (`force`, SIGKILL)."""

    def give_up(self) -> None:
        """It is not this worker's any more: end a process, leave a container to its new worker."""

    def close(self) -> None:
        """Give back what the attempt holds here. What it started, if anything is left, ends."""


class Runner(Protocol):
    #: Tells the Engine from others whose containers outlive their worker, so that another
    #: worker at the same Engine can adopt them. None: what is started ends with its worker.
    engine_id: str | None

    def start(self, launch: Launch) -> Attempt:
        """Start it. Raises StartError if that is known at once; else the outcome says so."""

    def adopt(self, execution_id: str, *, skip: int) -> Attempt:
        """Follow what another worker has started, without the first `skip` bytes of its output.

        If nothing is there any more, the outcome says so.
        """

    def sweep(self, find_live: Callable[[Sequence[str]], set[str]]) -> None:
        """Soon end what no execution owns. `find_live` tells which of some executions run.

        It is called in another thread.
        """

    def close(self) -> None:
        """End whatever this runner still has but what outlives it, and itself."""
