"""What the seed's unit tests ask, and every change of status."""

import datetime
import uuid

from django.utils import timezone

from executions.models import Execution
from executions.services import get_execution, list_executions, start_execution

Status = Execution.Status

# The seed's


def test_start_execution_creates_pending(db):
    result = start_execution(project_id="proj-1", bead_id="beads-001")

    assert result.status == Status.PENDING
    assert result.project_id == "proj-1"
    assert result.bead_id == "beads-001"
    assert result.id is not None


def test_get_execution_returns_created(db):
    created = start_execution(project_id="proj-1", bead_id="beads-001")

    result = get_execution(created.id)

    assert result is not None
    assert result.id == created.id


def test_get_execution_returns_none_for_unknown(db):
    assert get_execution("unknown-id") is None
    assert get_execution(uuid.uuid4()) is None


def test_list_executions_filters_by_project(db):
    start_execution(project_id="proj-1", bead_id="b1")
    start_execution(project_id="proj-2", bead_id="b2")

    result = list_executions(project_id="proj-1")

    assert len(result) == 1
    assert result[0].project_id == "proj-1"


# Acceptance


def test_ids_are_of_version_7_and_rise_with_age(db):
    ids = [start_execution(project_id="p", bead_id="b").pk for _ in range(20)]

    assert {identifier.version for identifier in ids} == {7}
    assert ids == sorted(ids)


def test_started_at_is_the_time_of_the_call(db):
    before = timezone.now() - datetime.timedelta(milliseconds=1)
    started_at = start_execution(project_id="p", bead_id="b").started_at

    assert before <= started_at <= timezone.now()


def test_timeout_defaults_to_the_settings(db, settings):
    settings.EXECUTION_TIMEOUT = 77

    assert start_execution(project_id="p", bead_id="b").timeout == 77
    assert start_execution(project_id="p", bead_id="b", timeout=5).timeout == 5
