"""Which projects a user or a group is limited to."""

from typing import Any

from django import forms
from django.contrib import admin

from executions.models import ProjectLimit

# Projects of one limit at most: a list reads an index for each of them.
MAX_PROJECTS = 100


class ProjectsField(forms.CharField):
    """One project a line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        lines = (line.strip() for line in super().clean(value).splitlines())
        projects = list(dict.fromkeys(filter(None, lines)))
        if len(projects) > MAX_PROJECTS:
            raise forms.ValidationError(f"At most {MAX_PROJECTS} projects.")
        return projects


@admin.register(ProjectLimit)
class ProjectLimitAdmin(admin.ModelAdmin):
    list_display = ("__str__", "user", "group", "shown_projects")
    list_select_related = ("user", "group")
    autocomplete_fields = ("user", "group")
    fields = ("user", "group", "projects")

    @admin.display(description="projects")
    def shown_projects(self, limit: ProjectLimit) -> str:
        return ", ".join(limit.projects) or "none"

    def formfield_for_dbfield(self, db_field: Any, request: Any, **options: Any) -> Any:
        if db_field.name == "projects":
            return ProjectsField(required=False, help_text=db_field.help_text)
        return super().formfield_for_dbfield(db_field, request, **options)
