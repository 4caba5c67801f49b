"""What goes in and out of the API."""

from collections.abc import Mapping
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from executions.models import Execution
from executions.output import output_end_of

ID_LENGTH = 255
CONTEXT_BYTES = 100 * 1024
MAX_TIMEOUT = 365 * 24 * 60 * 60

# The detail shows this many bytes of the output at most, its end; `/output` has all of it.
DETAIL_OUTPUT_BYTES = 64 * 1024

NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]*\Z"


class TextField(serializers.CharField):
    """A string as it was sent: nothing trimmed, and no number taken for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class IdField(TextField):
    """The id of a project or bead: any script, but no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_length=1, max_length=ID_LENGTH, **options)
        self.validators.append(
            RegexValidator(
                NO_CONTROL_CHARACTERS,
                "Control characters are not allowed.",
                code="control_characters",
            )
        )


class WholeNumberField(serializers.IntegerField):
    """A whole number in JSON: neither a string that looks like one, nor true; 60.0 is 60."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float) and data.is_integer():
            return int(data)
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class RejectUnknown(serializers.Serializer[Any]):
    """A serializer that names what it does not know instead of passing over it."""

    unknown_message = "Unknown field."

    def to_internal_value(self, data: Any) -> Any:
        known = self.fields
        unknown = [name for name in data if name not in known] if isinstance(data, Mapping) else []
        if unknown:
            raise serializers.ValidationError({name: [self.unknown_message] for name in unknown})
        return super().to_internal_value(data)


class ExecutionCreateSerializer(RejectUnknown):
    """Request to start an execution."""

    project_id = IdField(help_text="The project, as its tracker names it.")
    bead_id = IdField(help_text="The bead: an issue of the beads tracker.")
    context = TextField(  # type: ignore[assignment]  # DRF's name for what it passes along
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=CONTEXT_BYTES,
        help_text="Free text that is handed to the command, at most 100 KiB in UTF-8.",
    )
    timeout = WholeNumberField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MAX_TIMEOUT,
        help_text="Seconds that it may run. Without it, or null: the server's own default.",
    )

    def validate_context(self, value: str | None) -> str | None:
        if value is not None and len(value.encode()) > CONTEXT_BYTES:
            raise serializers.ValidationError(
                f"Ensure this field has no more than {CONTEXT_BYTES} bytes in UTF-8.",
                code="max_length",
            )
        return value


class ExecutionSerializer(serializers.ModelSerializer[Execution]):
    """An execution as lists show it, without its output."""

    requested_by = serializers.CharField(
        source="requested_by.username",
        default=None,
        read_only=True,
        allow_null=True,
        help_text="The name of the user who asked for it; null where access is open.",
    )

    class Meta:
        model = Execution
        fields = [
            "id",
            "project_id",
            "bead_id",
            "status",
            "started_at",
            "running_at",
            "completed_at",
            "output_size",
            "context",
            "exit_code",
            "failure_reason",
            "error",
            "timeout",
            "cancel_requested_at",
            "retry_of",
            "requested_by",
            "worker",
        ]
        read_only_fields = fields


class ExecutionDetailSerializer(ExecutionSerializer):
    """An execution with the end of its output."""

    output = serializers.SerializerMethodField(
        help_text=(
            f"The output so far, beyond {DETAIL_OUTPUT_BYTES} bytes its end; null until something "
            "was written. What is not UTF-8 is shown as U+FFFD."
        )
    )
    output_truncated = serializers.SerializerMethodField(
        help_text="Whether `output` is not all that was written."
    )

    class Meta(ExecutionSerializer.Meta):
        fields = [*ExecutionSerializer.Meta.fields, "output", "output_truncated"]
        read_only_fields = fields

    def to_representation(self, instance: Execution) -> Any:
        self._output, self._truncated = output_end_of(instance, limit=DETAIL_OUTPUT_BYTES)
        return super().to_representation(instance)

    @extend_schema_field({"type": ["string", "null"]})
    def get_output(self, execution: Execution) -> str | None:
        return self._output

    def get_output_truncated(self, execution: Execution) -> bool:
        return self._truncated


def read_empty_body(request: Request) -> None:
    """For calls without fields: no body, or `{}`. Raises ValidationError (400) otherwise."""
    if request.data != {}:
        RejectUnknown(data=request.data).is_valid(raise_exception=True)
