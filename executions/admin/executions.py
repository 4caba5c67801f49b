"""The admin: a window on executions, through which nothing can be added or edited."""

import datetime
import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from rest_framework.exceptions import Throttled

from executions import audit, services
from executions.access import access_of
from executions.models import Execution, ExecutionQuerySet
from executions.output import output_end_of
from executions.throttling import change_allowance

PAGE_SIZE = 100

# Bytes of output that an execution's page shows, from its end.
SHOWN_OUTPUT = 64 * 1024


class OnePage(ChangeList):
    """One page of a list, and a link to what is older. Nothing is counted and nothing skipped."""

    older_url = ""

    def get_results(self, request: HttpRequest) -> None:
        # Limited already; for each of the projects on its own it is read in the order of an index.
        projects = access_of(request.user).projects
        rows = list(self.queryset.page("-id", PAGE_SIZE + 1, project_id=projects))
        self.result_list = rows[:PAGE_SIZE]
        self.result_count = len(self.result_list)
        self.full_result_count = self.result_count  # else there is a link to show them all
        self.show_admin_actions = bool(rows)
        self.can_show_all = self.multi_page = False
        if len(rows) > PAGE_SIZE:
            self.older_url = self.get_query_string({"id__lt": self.result_list[-1].pk})


class StartedFilter(admin.SimpleListFilter):
    title = "started"
    parameter_name = "started"
    spans = {"day": 1, "week": 7, "month": 30}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, f"in the past {name}") for name in self.spans]

    def queryset(self, request: HttpRequest, queryset: Any) -> ExecutionQuerySet:
        days = self.spans.get(self.value() or "")
        if days is None:
            return queryset
        return queryset.accepted_after(timezone.now() - datetime.timedelta(days=days))


@admin.register(Execution)
class ExecutionAdmin(admin.ModelAdmin):
    list_display = ("id", "project_id", "bead_id", "state", "started", "at_work")
    list_filter = ("status", StartedFilter)
    search_fields = ("id",)  # shows the field; `get_search_results` says what is found
    search_help_text = "An id, or a whole project or bead."
    ordering = ("-id",)
    sortable_by = ()
    list_per_page = PAGE_SIZE
    list_select_related = False
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("cancel", "retry")
    fields = (
        ("id", "status"),
        ("project_id", "bead_id"),
        "context",
        ("timeout", "requested_by", "retry_of"),
        ("started_at", "running_at", "completed_at", "cancel_requested_at"),
        ("exit_code", "failure_reason", "error"),
        "worker",
        ("output_size", "output_left_out"),
        "output",
    )

    def view_on_site(self, execution: Execution) -> str:
        """Where it can be watched."""
        return reverse("execution-watch", args=[execution.pk])

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[OnePage]:
        return OnePage

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only what the page itself links to: others cost a walk through the table, or raise."""
        return lookup in ("id__lt", "status__exact", StartedFilter.parameter_name)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Execution], search_term: str
    ) -> tuple[QuerySet[Execution], bool]:
        """Rows of that id, project or bead. Each is looked up in its own index, a page of each."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found: set[uuid.UUID] = set()
        for lookup in _lookups(term):
            found.update(queryset.filter(**lookup).values_list("pk", flat=True)[: PAGE_SIZE + 1])
        return queryset.filter(pk__in=found), False

    @admin.display(description="status")
    def state(self, execution: Execution) -> str:
        state = execution.get_status_display()
        if execution.failure_reason is not None:
            return f"{state}: {execution.get_failure_reason_display()}"
        if not execution.has_ended and execution.cancel_requested_at is not None:
            return f"{state}: cancel requested"
        return state

    @admin.display(description="worker")
    def at_work(self, execution: Execution) -> str:
        if execution.worker is None:
            return "-"
        if execution.running_at is None or execution.has_ended:
            return execution.worker
        return f"{execution.worker} since {execution.running_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="started")
    def started(self, execution: Execution) -> str:
        return f"{execution.started_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="output")
    def output(self, execution: Execution) -> SafeString:
        text, cut = output_end_of(execution, limit=SHOWN_OUTPUT)
        note = f"The last {SHOWN_OUTPUT} bytes:\n" if cut else ""
        return format_html("<pre>{}{}</pre>", note, text or "")

    def get_queryset(self, request: HttpRequest) -> ExecutionQuerySet:
        return access_of(request.user).visible(Execution.objects.newest_first())

    @admin.action(description="Cancel the selected executions", permissions=["steer"])
    def cancel(self, request: HttpRequest, queryset: ExecutionQuerySet) -> None:
        def cancel(execution: Execution) -> None:
            if services.cancel_execution(execution).status != Execution.Status.CANCELLED:
                asked.append(execution)

        asked: list[Execution] = []
        done, refused = _each(request, queryset, cancel, refusal=services.HasEndedError)
        cancelled = done - len(asked)
        self._report(request, "Cancelled", cancelled)
        self._report(request, "Asked the workers to stop", len(asked))
        self._report(request, "Passed over as ended already", refused, messages.WARNING)

    @admin.action(description="Retry the selected executions", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: ExecutionQuerySet) -> None:
        def retry(execution: Execution) -> None:
            services.retry_execution(execution, requested_by=request.user)

        done, refused = _each(request, queryset, retry, refusal=services.HasNotEndedError)
        self._report(request, "Retried", done)
        self._report(request, "Passed over as not ended yet", refused, messages.WARNING)

    def _report(
        self, request: HttpRequest, what: str, count: int, level: int = messages.SUCCESS
    ) -> None:
        if count:
            self.message_user(request, f"{what}: {count}.", level)

    def has_view_permission(self, request: HttpRequest, obj: Execution | None = None) -> bool:
        access = access_of(request.user)
        return access.may_view_any if obj is None else access.may_view(obj)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel and retry what they see, whoever started it."""
        return access_of(request.user).may_steer_any

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return access_of(request.user).may_retry_any

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Execution | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Execution | None = None) -> bool:
        return False


def _each(
    request: HttpRequest,
    executions: ExecutionQuerySet,
    do: Callable[[Execution], None],
    *,
    refusal: type[Exception],
) -> tuple[int, int]:
    """Do it to each of a page's executions: how many it was done to, and how many refused."""
    done = refused = 0
    for execution in executions[:PAGE_SIZE]:
        try:
            with change_allowance(request.user):
                do(execution)
            done += 1
            outcome = "succeeded"
        except refusal:
            refused += 1
            outcome = "failed"
        except Throttled as error:
            messages.error(request, str(error.detail))
            break
        audit.record(do.__name__, request, execution=execution.pk, outcome=outcome)
    return done, refused


def _lookups(term: str) -> list[dict[str, Any]]:
    lookups: list[dict[str, Any]] = [{"project_id": term}, {"bead_id": term}]
    try:
        return [{"pk": uuid.UUID(term)}, *lookups]
    except ValueError:
        return lookups
