"""Who may call the API."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, BasePermission

if TYPE_CHECKING:  # DRF's views import this module while they are being imported
    from rest_framework.request import Request
    from rest_framework.views import APIView


class IsAuthenticatedOrOpenAccess(BasePermission):
    """Logged-in users, and with OPEN_ACCESS anyone, but for the pages of other sites."""

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        if request.user and request.user.is_authenticated:
            return True
        return settings.OPEN_ACCESS and (
            request.method in SAFE_METHODS or not _is_from_another_site(request)
        )


def _is_from_another_site(request: "Request") -> bool:
    """Whether a browser sent this from a foreign page: it then says from which."""
    origin = request.headers.get("Origin")
    return origin is not None and origin != f"{request.scheme}://{request.get_host()}"
