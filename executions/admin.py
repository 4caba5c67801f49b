"""The admin: a window on executions, through which nothing can be added or edited."""

import datetime
import uuid
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from executions import services
from executions.models import Execution, ExecutionQuerySet

admin.site.site_header = admin.site.site_title = "Executions"

PAGE_SIZE = 100

# Bytes of output that an execution's page shows, from its end.
SHOWN_OUTPUT = 64 * 1024


class OnePage(ChangeList):
    """One page of a list, and a link to what is older. Nothing is counted and nothing skipped."""

    older_url = ""

    def get_results(self, request: HttpRequest) -> None:
        rows = list(self.queryset[: PAGE_SIZE + 1])
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
        value = self.value()
        if value is None:
            return queryset
        return queryset.accepted_after(timezone.now() - datetime.timedelta(days=self.spans[value]))


@admin.register(Execution)
class ExecutionAdmin(admin.ModelAdmin):
    list_display = ("id", "project_id", "bead_id", "state", "started", "worker")
    list_filter = ("status", StartedFilter)
    search_fields = ("id",)  # shows the field; `get_search_results` says what is found
    search_help_text = "An id, or a whole project or bead."
    ordering = ("-id",)
    sortable_by = ()
    list_per_page = PAGE_SIZE
    list_select_related = False
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    fields = (
        ("id", "status"),
        ("project_id", "bead_id"),
        "context",
        ("timeout", "requested_by", "retry_of"),
        ("started_at", "running_at", "completed_at", "cancel_requested_at"),
        ("exit_code", "failure_reason", "error"),
        "worker",
        ("output_size", "output_truncated"),
        "output",
    )

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[OnePage]:
        return OnePage

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
        if execution.failure_reason is None:
            return execution.get_status_display()
        return f"{execution.get_status_display()}: {execution.get_failure_reason_display()}"

    @admin.display(description="started")
    def started(self, execution: Execution) -> str:
        return f"{execution.started_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="output")
    def output(self, execution: Execution) -> SafeString:
        text, cut = services.read_output_end(execution, limit=SHOWN_OUTPUT)
        note = f"The last {SHOWN_OUTPUT} bytes:\n" if cut else ""
        return format_html("<pre>{}{}</pre>", note, text or "")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Execution | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Execution | None = None) -> bool:
        return False


def _lookups(term: str) -> list[dict[str, Any]]:
    lookups: list[dict[str, Any]] = [{"project_id": term}, {"bead_id": term}]
    try:
        return [{"pk": uuid.UUID(term)}, *lookups]
    except ValueError:
        return lookups
