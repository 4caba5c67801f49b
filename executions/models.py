"""What is kept: executions and the chunks of their output.

Nothing here writes a status: every change of it is a `Transition`.
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from executions.ids import new_id
from executions.querysets import ExecutionQuerySet


class Execution(models.Model):
    """One request to run something for a bead of a project."""

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class FailureReason(models.TextChoices):
        EXIT_CODE = "exit_code", "exit code"
        TIMEOUT = "timeout"
        OUT_OF_MEMORY = "out_of_memory", "out of memory"
        START_ERROR = "start_error", "start error"
        WORKER_LOST = "worker_lost", "worker lost"

    ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project_id = models.CharField(max_length=255, help_text="The project, as its tracker names it.")
    bead_id = models.CharField(max_length=255, help_text="The bead: an issue of the beads tracker.")
    context = models.TextField(null=True, help_text="Free text handed to the command.")
    timeout = models.PositiveIntegerField(help_text="Seconds that it may run.")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        db_index=False,  # read along with a row, never searched by
        related_name="+",
        help_text="Who asked for it; null where access is open.",
    )
    retry_of = models.UUIDField(
        null=True,
        help_text="The execution that this one repeats. No foreign key: that one may be pruned.",
    )

    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    started_at = models.DateTimeField(help_text="When it was accepted.")
    running_at = models.DateTimeField(null=True, help_text="When its process or container began.")
    completed_at = models.DateTimeField(null=True, help_text="When it ended, however it ended.")
    cancel_requested_at = models.DateTimeField(
        null=True, help_text="When its cancel was asked for; its worker then carries it out."
    )

    exit_code = models.IntegerField(
        null=True,
        help_text="What the command ended with; 128 and the signal's number if a signal ended it.",
    )
    failure_reason = models.CharField(max_length=13, choices=FailureReason, null=True)
    error = models.TextField(null=True, help_text="Why it failed, in one sentence.")
    output_size = models.BigIntegerField(
        default=0, help_text="Bytes written so far, also those no longer kept."
    )
    output_left_out = models.BigIntegerField(
        default=0, help_text="Bytes of its middle that are not kept: beyond the limit."
    )

    idempotency_key = models.CharField(
        max_length=64,
        null=True,
        help_text="SHA-256 of the caller and the key that they sent; null without a key.",
    )
    request_digest = models.CharField(
        max_length=64, null=True, help_text="SHA-256 of what was asked for with that key."
    )

    worker = models.CharField(max_length=255, null=True, help_text="The worker that claimed it.")
    engine = models.CharField(
        max_length=255,
        null=True,
        help_text="The Docker Engine that has its container; null if it is a process.",
    )
    lease_token = models.UUIDField(
        null=True, help_text="The claim that holds; null when none does."
    )
    lease_expires_at = models.DateTimeField(null=True)

    objects = ExecutionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="execution_status_known",
                condition=Q(status__in=["pending", "running", "completed", "failed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="execution_claimed_while_running",
                condition=Q(
                    status="running", lease_token__isnull=False, lease_expires_at__isnull=False
                )
                | Q(~Q(status="running"), lease_token__isnull=True, lease_expires_at__isnull=True),
            ),
            models.CheckConstraint(
                name="execution_completed_at_when_ended",
                condition=Q(
                    status__in=["completed", "failed", "cancelled"], completed_at__isnull=False
                )
                | Q(status__in=["pending", "running"], completed_at__isnull=True),
            ),
            models.CheckConstraint(
                name="execution_failed_for_a_reason",
                condition=Q(status="failed", failure_reason__isnull=False, error__isnull=False)
                | Q(~Q(status="failed"), failure_reason__isnull=True),
            ),
            models.CheckConstraint(
                name="execution_completed_with_zero",
                condition=~Q(status="completed") | Q(exit_code=0),
            ),
            models.UniqueConstraint(
                name="execution_idempotency_key",
                fields=["idempotency_key"],
                condition=Q(idempotency_key__isnull=False),  # most have none
            ),
        ]
        indexes = [
            # A list, newest first, by any one of its filters …
            models.Index(fields=["project_id", "id"], name="execution_project"),
            models.Index(fields=["project_id", "status", "id"], name="execution_project_status"),
            models.Index(fields=["bead_id", "id"], name="execution_bead"),
            models.Index(fields=["status", "id"], name="execution_status"),
            # … the projects that wait; those that are busy, and the leases that have run out.
            models.Index(
                fields=["project_id", "id"],
                name="execution_pending",
                condition=Q(status="pending"),
            ),
            models.Index(
                fields=["project_id", "lease_expires_at"],
                name="execution_running",
                condition=Q(status="running"),
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def has_ended(self) -> bool:
        return self.status in self.ENDED

    @property
    def output_truncated(self) -> bool:
        return self.output_left_out > 0


class Installation(models.Model):
    """The one row that tells this service from others which use the same Docker Engine."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.pk)


class OutputChunk(models.Model):
    """Bytes that an execution wrote, as they came, from `offset` on."""

    pk = models.CompositePrimaryKey("execution_id", "offset")
    execution = models.ForeignKey(
        Execution,
        on_delete=models.CASCADE,
        db_index=False,  # the primary key begins with it
        related_name="chunks",
    )
    offset = models.BigIntegerField(help_text="How many bytes had been written before.")
    data = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.execution_id} from byte {self.offset}"


class ApiToken(models.Model):
    """A key to the API for programs. Deleting it revokes it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="api_tokens",
        help_text="Whoever has the token may do what this user may.",
    )
    name = models.CharField(max_length=100, help_text="What it is used for, or where.")
    digest = models.CharField(
        max_length=64,
        unique=True,
        editable=False,
        help_text="SHA-256 of the token, which is kept nowhere.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on it is refused; empty: never."
    )
    last_used_at = models.DateTimeField(
        null=True, editable=False, help_text="To the minute; null: never used."
    )

    class Meta:
        verbose_name = "API token"
        verbose_name_plural = "API tokens"

    def __str__(self) -> str:
        return self.name


class ProjectLimit(models.Model):
    """Limits a user, or everyone in a group, to some projects.

    Who has several has the projects of all of them; who has none has every project.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    group = models.OneToOneField(
        "auth.Group",
        on_delete=models.PROTECT,  # else its members would have every project at once
        null=True,
        blank=True,
        related_name="+",
    )
    projects = models.JSONField(
        default=list, blank=True, help_text="One project a line. None at all: no project."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="project_limit_of_user_or_group",
                condition=Q(user=None) ^ Q(group=None),
                violation_error_message="Choose a user or a group.",
            )
        ]

    def __str__(self) -> str:
        return str(self.user or self.group)


class Allowance(models.Model):
    """What `throttling` keeps of an allowance that is not whole at the moment."""

    key = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of what is counted.")
    full_at = models.FloatField(
        db_index=True, help_text="Seconds since 1970 when it is whole again."
    )

    def __str__(self) -> str:
        return self.key
