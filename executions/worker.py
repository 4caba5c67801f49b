"""The worker: claims executions, supervises them and stores what comes of them.

One thread waits on everything at once: the bell that tells of new work, the
output and the end of each attempt, and the next thing that is due. What the
database does not take now is kept and offered again, so that a turn that
failed has lost nothing.
"""

import logging
import selectors
import time
import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from executions import claims
from executions.buffer import OutputBuffer, Write
from executions.launching import build_launch
from executions.models import Execution
from executions.runners.base import Outcome, Runner, StartError
from executions.supervision import Supervision
from executions.wakeup import Bell

FailureReason = Execution.FailureReason
logger = logging.getLogger(__name__)

# Seconds after which a worker looks for work even if no bell rang, and for lost workers.
LOOK_INTERVAL = 1.0
SWEEP_INTERVAL = 1.0

# Seconds after which a worker looks for containers that no execution owns.
LEFTOVERS_INTERVAL = 60.0

# Seconds to wait after the database has failed.
DATABASE_RETRY = 0.5

SHUT_DOWN = "The worker was shut down while it ran."


class Worker:
    """Runs executions with `runner` until it is told to `stop`."""

    def __init__(self, runner: Runner, bell: Bell, *, name: str) -> None:
        self.runner = runner
        self.bell = bell
        self.name = name
        self.supervised: dict[uuid.UUID, Supervision] = {}  # by the token of the claim
        self.selector = selectors.DefaultSelector()
        self.selector.register(bell, selectors.EVENT_READ)
        self.stopping = False
        self.hurry = False  # told to stop twice: wait for nothing
        self.grace_ends = float("inf")  # what it may take to stop, by the monotonic clock
        # When each is due next, by the monotonic clock.
        self.look_at = self.renew_at = self.sweep_at = self.leftovers_at = 0.0

    def run(self) -> None:
        """Return when `stop` was called and nothing is left to supervise."""
        logger.info("Worker %s is ready.", self.name)
        while self.supervised or not self.stopping:
            for supervision in self.wait():
                supervision.follow()
            self.enforce()
            try:
                self.commit()
                self.hand_over()
                self.dismiss()
                self.renew()
                self.sweep()
            except (OperationalError, InterfaceError) as error:
                logger.warning("The database failed, trying again: %s", error)
                connection.close()
                self.look_at = 0.0
                time.sleep(DATABASE_RETRY)
        self.runner.close()
        logger.info("Worker %s has stopped.", self.name)

    def stop(self) -> None:
        """Claim nothing more. Containers are left to others at once, and processes may end within
        the grace period. Called twice it waits for nothing.

        Made to be called by a signal handler.
        """
        if self.stopping:
            self.hurry = True
        else:
            self.stopping = True
            self.grace_ends = time.monotonic() + settings.EXECUTION_GRACE_PERIOD
        self.bell.ring()

    @property
    def is_late(self) -> bool:
        """Whether it was told to stop and has waited long enough."""
        return self.hurry or time.monotonic() >= self.grace_ends

    def wait(self) -> list[Supervision]:
        """Wait until something happens or is due; the executions that have something to tell."""
        due = [self.look_at, self.renew_at, self.sweep_at]
        for supervision in self.supervised.values():
            due.append(supervision.next_due)
            supervision.watch(self.selector)
        if not self.is_late:
            due.append(self.grace_ends)
        ready = self.selector.select(max(min(due) - time.monotonic(), 0))
        if any(key.fileobj is self.bell for key, _ in ready) and self.bell.rang():
            self.look_at = 0.0
        talking = {key.data.token: key.data for key, _ in ready if key.data is not None}
        talking.update((t, each) for t, each in self.supervised.items() if each.must_be_drained)
        return list(talking.values())

    def enforce(self) -> None:
        """Stop what has run too long, and processes once a shutdown has waited long enough."""
        grace = settings.EXECUTION_GRACE_PERIOD
        has_processes = self.runner.engine_id is None  # containers are handed over instead
        for supervision in self.supervised.values():
            if has_processes and self.is_late:
                supervision.stop(FailureReason.WORKER_LOST, SHUT_DOWN, grace=grace)
            if has_processes and self.hurry:
                supervision.kill()
            supervision.enforce(grace=grace)

    def commit(self) -> None:
        """Store what is new once some of it is due, and claim executions for the free places.

        In one transaction, since each waits for the disk.
        """
        is_time = time.monotonic() >= self.look_at
        if not is_time and not any(each.is_due for each in self.supervised.values()):
            return
        if is_time:
            self.look_at = time.monotonic() + LOOK_INTERVAL
            self.bell.rang()  # what is rung from here on is for the next look
        news = [each for each in self.supervised.values() if each.has_news]
        with transaction.atomic():
            stored = [(each, self.store_one(each)) for each in news]
            leaving = sum(write is None or write.is_last for _, write in stored)
            cancelled = claims.cancelled_claims(list(self.supervised)) if is_time else set()
            claimed = self.claim(leaving=leaving) if is_time or leaving else []
        for supervision, write in stored:
            if write is not None:
                supervision.mark_stored(write)
            else:
                self.lose(supervision)
        for token in cancelled:
            self.supervised[token].stop(None, grace=settings.EXECUTION_GRACE_PERIOD)
        for execution, token in claimed:
            self.supervised[token] = self.start(execution, token)

    def claim(self, *, leaving: int) -> list[tuple[Execution, uuid.UUID]]:
        """As many as there are places; `leaving` are free with this transaction."""
        if self.stopping:
            return []
        return claims.claim_executions(
            worker=self.name,
            limit=settings.WORKER_CONCURRENCY - len(self.supervised) + leaving,
            lease=settings.WORKER_LEASE,
            engine=self.runner.engine_id,
        )

    def dismiss(self) -> None:
        """Let go of what is done with."""
        for supervision in [each for each in self.supervised.values() if each.is_done]:
            supervision.close(self.selector)
            del self.supervised[supervision.token]

    def store_one(self, supervision: Supervision) -> Write | None:
        """What was stored, or None if the claim holds no more."""
        write = supervision.output.next_write(complete=supervision.has_ended)
        news: dict[str, Any] = {
            "token": supervision.token,
            "running_at": supervision.running_at,
            "write": write,
        }
        if write.is_last and supervision.outcome is not None:
            news |= supervision.ending(supervision.outcome)
            holds = claims.finish_execution(supervision.execution_id, **news)
        else:
            holds = claims.record_progress(supervision.execution_id, **news)
        return write if holds else None

    def renew(self) -> None:
        if time.monotonic() < self.renew_at:
            return
        if self.supervised:
            tokens = [token for token, each in self.supervised.items() if each.claim_holds]
            for token in claims.renew_leases(tokens, lease=settings.WORKER_LEASE):
                self.lose(self.supervised[token])
        self.renew_at = time.monotonic() + settings.WORKER_HEARTBEAT

    def lose(self, supervision: Supervision) -> None:
        """Another has ended or adopted it while this worker slept through its lease."""
        logger.warning("Lost the claim on %s.", supervision.execution_id)
        supervision.give_up()
        self.leftovers_at = 0.0

    def hand_over(self) -> None:
        """Before it stops, leave what outlives this worker to others."""
        if not self.stopping or self.runner.engine_id is None:
            return
        # What is just being started is left once it has begun, for others to find it.
        leaving = [each for each in self.supervised.values() if each.has_begun or self.is_late]
        if leaving:
            claims.release_claims([each.token for each in leaving])
            for supervision in leaving:
                supervision.give_up()

    def sweep(self) -> None:
        """See to what lost workers have left behind."""
        if time.monotonic() < self.sweep_at:
            return
        own = [token for token, each in self.supervised.items() if each.claim_holds]
        if self.runner.engine_id is not None and not self.stopping:
            adopted = claims.adopt_executions(
                worker=self.name,
                engine=self.runner.engine_id,
                lease=settings.WORKER_LEASE,
                but=own,
            )
            for execution, token in adopted:
                logger.info("Adopted %s.", execution.pk)
                self.supervised[token] = self.adopt(execution, token)
            own += [token for _, token in adopted]
        if lost := claims.fail_lost_executions(but=own):
            logger.warning("Ended %d executions of lost workers.", lost)
        self.sweep_at = time.monotonic() + SWEEP_INTERVAL
        if time.monotonic() >= self.leftovers_at:
            self.runner.sweep(find_running)
            self.leftovers_at = time.monotonic() + LEFTOVERS_INTERVAL

    def start(self, execution: Execution, token: uuid.UUID) -> Supervision:
        try:
            attempt = self.runner.start(build_launch(execution, token))
        except StartError as error:
            outcome = Outcome(exit_code=None, failure_reason="start_error", error=str(error))
            return self.supervise(execution, token, attempt=None, outcome=outcome)
        return self.supervise(execution, token, attempt=attempt)

    def supervise(self, execution: Execution, token: uuid.UUID, **attempt: Any) -> Supervision:
        output = OutputBuffer(limit=settings.EXECUTION_OUTPUT_LIMIT)
        return Supervision(execution, token=token, output=output, **attempt)

    def adopt(self, execution: Execution, token: uuid.UUID) -> Supervision:
        output = OutputBuffer.resumed(
            limit=settings.EXECUTION_OUTPUT_LIMIT,
            size=execution.output_size,
            left_out=execution.output_left_out,
            pieces=claims.stored_pieces(execution.pk),
        )
        attempt = self.runner.adopt(str(execution.pk), skip=output.size)
        return Supervision(execution, token=token, output=output, attempt=attempt, is_adopted=True)


def find_running(execution_ids: Sequence[str]) -> set[str]:
    """For a sweep, which has a thread of its own, and so a connection of its own."""
    try:
        return claims.running_among(execution_ids)
    finally:
        connection.close()
