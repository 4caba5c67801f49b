"""manage.py prune_executions"""

import datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from executions import claims, services
from executions.ids import bounds_at
from executions.models import Execution, OutputChunk
from executions.pruning import BATCH_BYTES
from executions.services import start_execution
from executions.tests.helpers import write_output


def ended(days_ago, *, status="completed", output=b"text"):
    """An execution that was accepted and ended so many days ago."""
    start_execution(project_id="p", bead_id=f"{status}-{days_ago}")
    [(execution, token)] = claims.claim_executions(worker="w", limit=1, lease=30)
    write_output(execution, token, output)
    if status == "cancelled":
        services.cancel_execution(execution)
    claims.finish_execution(execution.pk, token=token, exit_code=int(status == "failed"))
    moment = timezone.now() - datetime.timedelta(days=days_ago)
    identifier = bounds_at(moment)[0]
    with transaction.atomic():  # foreign keys are checked at its end
        Execution.objects.filter(pk=execution.pk).update(
            id=identifier, started_at=moment, completed_at=moment
        )
        OutputChunk.objects.filter(execution_id=execution.pk).update(execution_id=identifier)


def prune(capsys, *arguments):
    call_command("prune_executions", *arguments)
    return capsys.readouterr().out.strip()


def left():
    return set(Execution.objects.values_list("bead_id", flat=True))


@pytest.mark.django_db(transaction=True)
def test_removes_what_ended_before_and_its_output(capsys):
    for days in (1, 29, 31, 400):
        ended(days)
    start_execution(project_id="p", bead_id="waiting")

    assert prune(capsys, "--older-than", "30d") == "Removed 2 executions."
    assert left() == {"completed-1", "completed-29", "waiting"}
    assert OutputChunk.objects.count() == 2
    assert prune(capsys, "--older-than", "30d") == "Removed 0 executions."


@pytest.mark.django_db(transaction=True)
def test_only_of_a_status_and_only_to_see(capsys):
    for days, status in ((40, "completed"), (41, "failed"), (42, "cancelled")):
        ended(days, status=status)
    options = ["--older-than", "30d", "--status", "failed", "--status", "cancelled"]

    assert prune(capsys, *options, "--dry-run") == "Would remove 2 executions."
    assert len(left()) == 3
    assert prune(capsys, *options) == "Removed 2 executions."
    assert left() == {"completed-40"}


@pytest.mark.django_db(transaction=True)
def test_what_still_waits_or_runs_is_never_removed(capsys):
    for name in "pq":
        start_execution(project_id=name, bead_id=name)
    claims.claim_executions(worker="w", limit=1, lease=30)
    long_ago = timezone.now() - datetime.timedelta(days=400)
    for number, pk in enumerate(Execution.objects.values_list("pk", flat=True)):
        moment = long_ago + datetime.timedelta(days=number)
        Execution.objects.filter(pk=pk).update(id=bounds_at(moment)[0], started_at=moment)

    assert prune(capsys, "--older-than", "1d") == "Removed 0 executions."
    assert len(left()) == 2


@pytest.mark.django_db(transaction=True)
def test_many_and_large_ones_go_in_batches(capsys):
    for number in range(130):
        ended(40 + number)
    ended(39, output=bytes(BATCH_BYTES + 1))

    assert prune(capsys, "--older-than", "30d") == "Removed 131 executions."
    assert not Execution.objects.exists()
    assert not OutputChunk.objects.exists()


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "", "1.5d"])
def test_a_bad_age_is_refused(age):
    with pytest.raises(CommandError):
        call_command("prune_executions", "--older-than", age)


def test_an_age_is_required():
    with pytest.raises(CommandError):
        call_command("prune_executions")
