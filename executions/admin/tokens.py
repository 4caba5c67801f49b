"""API tokens: made, shown once, and revoked by deleting them."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from executions import audit
from executions.models import ApiToken
from executions.tokens import LIFETIME, give_secret


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    """Superusers see everyone's tokens; others their own, and make them for themselves only.

    Otherwise an operator could make a superuser's.
    """

    list_display = ("name", "user", "created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    ordering = ("user__username", "name")
    autocomplete_fields = ("user",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens = super().get_queryset(request)
        return tokens if _is_superuser(request) else tokens.filter(user=request.user.pk)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        if obj is None:
            return [*(["user"] if _is_superuser(request) else []), "name", "expires_at"]
        return ["user", "name", "created_at", "expires_at", "last_used_at"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = {"user": request.user.pk, "expires_at": timezone.now() + LIFETIME}
        return initial | super().get_changeform_initial_data(request)

    def save_model(
        self, request: HttpRequest, obj: ApiToken, form: "ModelForm[ApiToken]", change: bool
    ) -> None:
        if not _is_superuser(request):
            obj.user = request.user  # type: ignore[assignment]  # no anonymous user gets here
        obj.secret = give_secret(obj)  # type: ignore[attr-defined]  # for `response_add`
        super().save_model(request, obj, form, change)
        audit.record("token", request, outcome="made", of=obj.user.username, token=obj.pk)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        audit.record("token", request, outcome="revoked", of=obj.user.username, token=obj.pk)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            self.delete_model(request, token)

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page with the token, and not a redirect: on its way it would have to be kept."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "API token",
            "token": obj,
            "secret": obj.secret,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/executions/apitoken/made.html", context)

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)
