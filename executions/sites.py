"""Who gets into the admin."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse

from executions.access import access_of
from executions.throttling import limit_logins


class ExecutionsAdminSite(AdminSite):
    """Open to operators by their role; what they see there, their permissions say.

    Django's own wants each user's staff status ticked besides, and still takes it.
    """

    site_header = site_title = "Executions"
    login_form = AuthenticationForm  # Django's own for the admin wants the staff status

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return limit_logins(super().login)(request, extra_context)

    def has_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return user.is_active and (user.is_staff or access_of(user).may_steer_any)
