"""What requests say beside their body: query parameters and the idempotency key."""

import re
from typing import Any

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.settings import api_settings

from executions.models import Execution
from executions.serializers import IdField, RejectUnknown


class ListParameters(RejectUnknown):
    """Raises ValidationError (400) naming a bad value, an unknown or a repeated parameter."""

    unknown_message = "Unknown parameter."

    project_id = IdField(required=False, help_text="Only executions of this project.")
    bead_id = IdField(required=False, help_text="Only executions of this bead.")
    status = serializers.MultipleChoiceField(
        required=False,
        choices=Execution.Status.choices,
        help_text="Only executions of this status; may be repeated.",
    )
    started_after = serializers.DateTimeField(
        required=False, help_text="Only executions accepted later than this."
    )
    started_before = serializers.DateTimeField(
        required=False, help_text="Only executions accepted earlier than this."
    )


# Read elsewhere: by the pagination and, for the browsable API, by content negotiation.
OTHER_PARAMETERS = ("limit", "cursor", api_settings.URL_FORMAT_OVERRIDE)


LIST_PARAMETERS = ListParameters()  # made once: making one takes longer than its use


def read_list_parameters(query: QueryDict) -> dict[str, Any]:
    """The filters of a request, ready for `services.list_executions`."""
    return LIST_PARAMETERS.run_validation(_given_once(query, but="status"))


class OutputParameters(RejectUnknown):
    unknown_message = "Unknown parameter."

    offset = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=2**63 - 1,
        help_text="Only what was written after this many bytes.",
    )
    wait = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=30,
        help_text="With `offset`: seconds to wait for something to come.",
    )
    download = serializers.BooleanField(
        required=False, help_text="Answer as a file to be saved under a name of its own."
    )


def read_output_parameters(request: Request) -> dict[str, Any]:
    """Of `/output`. Raises ValidationError (400) for a bad, unknown or repeated one."""
    parameters = OutputParameters(data=_given_once(request.query_params))
    parameters.is_valid(raise_exception=True)
    found = parameters.validated_data
    if "wait" in found and "offset" not in found:
        raise serializers.ValidationError({"wait": ["It goes with offset."]})
    return found


def _given_once(query: QueryDict, *, but: str | None = None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, values in query.lists():
        if name == but:
            given[name] = values
        elif len(values) > 1:
            raise serializers.ValidationError({name: ["Given more than once."]})
        elif name not in OTHER_PARAMETERS:
            given[name] = values[0]
    return given


def read_idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key` header, or None. Raises ValidationError (400) for a bad one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise serializers.ValidationError(
            {"Idempotency-Key": ["1 to 255 visible ASCII characters are required."]}
        )
    return key
