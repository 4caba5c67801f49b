"""One claimed execution in the hands of a worker: its attempt, and what is not stored yet."""

import selectors
import time
import uuid
from typing import Any

from django.utils import timezone

from executions.buffer import OutputBuffer, Write
from executions.models import Execution
from executions.runners.base import Attempt, Outcome

FailureReason = Execution.FailureReason

# Bytes taken from an attempt at once.
READ_SIZE = 256 * 1024

# Seconds that news may wait for being stored: many pieces, and many executions, in one commit.
STORE_INTERVAL = 0.15


class Supervision:
    """Follows one attempt. Nothing here reads or writes the database."""

    def __init__(
        self,
        execution: Execution,
        *,
        token: uuid.UUID,
        output: OutputBuffer,
        attempt: Attempt | None,
        outcome: Outcome | None = None,
        is_adopted: bool = False,
    ) -> None:
        """`attempt` is None where `outcome` says at once why it could not be started.

        An execution that another worker has begun goes on where that one was.
        """
        self.execution_id = execution.pk
        self.token = token
        self.attempt = attempt
        self.timeout = execution.timeout  # seconds
        self.output = output
        self.store_at = 0.0  # when its news are due, by the monotonic clock
        self.running_at = execution.running_at
        self.running_at_stored = True  # what there is of it
        self.ending_stored = False
        self.has_begun = is_adopted
        self.timeout_at: float | None = None  # by the monotonic clock; None until it is known
        self.outcome = outcome
        self.output_complete = attempt is None
        self.output_is_dry = False  # there was none when it was last read
        self.claim_holds = True
        self.stop_asked = False
        self.stop_reason: FailureReason | None = None
        self.stop_error: str | None = None
        self.kill_at = float("inf")
        self.watched: set[int] = set()  # its descriptors that a selector has

    @property
    def has_ended(self) -> bool:
        return self.outcome is not None and self.output_complete

    @property
    def is_done(self) -> bool:
        """Nothing is left to do for it: it has ended, and that is stored or not ours to store."""
        return self.has_ended and (self.ending_stored or not self.claim_holds)

    @property
    def next_due(self) -> float:
        """When it needs attention even if nothing happens, by the monotonic clock."""
        if self.must_be_drained or self.is_due:
            return 0.0
        due = [self.kill_at]
        if self.timeout_at is not None:
            due.append(self.timeout_at)
        if self.has_news:
            due.append(self.store_at)
        return min(due)

    @property
    def must_be_drained(self) -> bool:
        """It has ended, and what is left of its output may never make its descriptor readable."""
        return self.outcome is not None and self.wants_output and not self.output_is_dry

    @property
    def wants_output(self) -> bool:
        """False while the database is behind: the pipe fills up, and the command waits."""
        return not self.output_complete and not self.output.is_full

    @property
    def has_news(self) -> bool:
        """Whether there is something that the database does not know."""
        return self.claim_holds and (
            self.has_unstored_end or not self.running_at_stored or self.output.has_unstored
        )

    @property
    def is_due(self) -> bool:
        """Whether its news should be stored now. All but its end may wait for more to come."""
        return self.claim_holds and (
            self.has_unstored_end or (self.has_news and self.store_at <= time.monotonic())
        )

    @property
    def has_unstored_end(self) -> bool:
        return self.has_ended and not self.ending_stored

    def follow(self) -> None:
        """Take what the attempt has to tell and to give."""
        if self.attempt is None:
            return
        self.attempt.follow()
        if self.outcome is None and self.attempt.outcome is not None:
            self.outcome = self.attempt.outcome
            self.output_is_dry = False
            self._note_overrun(self.outcome)
        running_at = self.attempt.running_at or getattr(self.outcome, "running_at", None)
        if running_at is not None and self.timeout_at is None:
            self.has_begun = True
            if self.running_at is None:
                self._note_news()
                self.running_at, self.running_at_stored = running_at, False
            elapsed = timezone.now() - running_at  # much, if it is adopted
            self.timeout_at = time.monotonic() + self.timeout - elapsed.total_seconds()
        if self.wants_output:
            self._read_output(self.attempt)

    def _note_overrun(self, outcome: Outcome) -> None:
        """Say so of what failed later than it should, stopped by a worker that is gone."""
        overran = outcome.duration is not None and outcome.duration >= self.timeout
        if overran and outcome.exit_code != 0 and not self.stop_asked:
            self.stop_reason, self.stop_error = FailureReason.TIMEOUT, self.timeout_error

    @property
    def timeout_error(self) -> str:
        return f"It did not end within its timeout of {self.timeout} s."

    def _read_output(self, attempt: Attempt) -> None:
        data = attempt.read_output(READ_SIZE)
        self.output_is_dry = data is None
        if data == b"":
            self.output_complete = True
        elif data and self.claim_holds:
            self._note_news()
            self.output.add(data)

    def _note_news(self) -> None:
        if not self.has_news:
            self.store_at = time.monotonic() + STORE_INTERVAL

    def enforce(self, *, grace: float) -> None:
        """Stop it if its time is over; kill it if it was asked to stop `grace` seconds ago."""
        now = time.monotonic()
        if self.timeout_at is not None and now >= self.timeout_at:
            self.timeout_at = float("inf")
            self.stop(FailureReason.TIMEOUT, self.timeout_error, grace=grace)
        if now >= self.kill_at and self.attempt is not None:
            self.kill_at = float("inf")
            self.attempt.stop(force=True)

    def stop(self, reason: FailureReason | None, error: str | None = None, *, grace: float) -> None:
        """Ask it to end, and kill it `grace` seconds later. The first to ask has the say.

        `reason` is None for a cancel, which the database knows of.
        """
        if self.attempt is None or self.outcome is not None:
            return
        if not self.stop_asked:
            self.stop_asked, self.stop_reason, self.stop_error = True, reason, error
            self.attempt.stop(force=False)
            self.kill_at = time.monotonic() + grace

    def kill(self) -> None:
        """Do not wait any longer for what was asked to end."""
        if self.attempt is not None and self.outcome is None:
            self.attempt.stop(force=True)

    def give_up(self) -> None:
        """The claim holds no more: nothing more of it is to be stored."""
        self.claim_holds = False
        self.output.clear()
        if self.attempt is not None:
            self.attempt.give_up()
            self.outcome = self.attempt.outcome
            self.output_complete = self.outcome is not None

    def mark_stored(self, write: Write) -> None:
        """`running_at` and `write` are in the database now; the last write with how it ended."""
        self.running_at_stored = True
        self.ending_stored = write.is_last
        self.output.written()
        self.store_at = time.monotonic() + STORE_INTERVAL

    def ending(self, outcome: Outcome) -> dict[str, Any]:
        """How it ended, for `claims.finish_execution`: why it was stopped comes first."""
        return {
            "exit_code": outcome.exit_code,
            "failure_reason": self.stop_reason or outcome.failure_reason,
            "error": self.stop_error or outcome.error,
        }

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have `selector` tell of what this attempt can still bring."""
        wanted = set()
        if self.attempt is not None and self.outcome is None:
            wanted.add(self.attempt.event_fileno())
        if self.attempt is not None and self.wants_output:
            wanted.add(self.attempt.output_fileno())
        for descriptor in wanted - self.watched:
            selector.register(descriptor, selectors.EVENT_READ, self)
        for descriptor in self.watched - wanted:
            selector.unregister(descriptor)
        self.watched = wanted

    def close(self, selector: selectors.BaseSelector) -> None:
        for descriptor in self.watched:
            selector.unregister(descriptor)
        self.watched = set()
        if self.attempt is not None:
            self.attempt.close()
