"""Who may call the API."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.permissions import BasePermission

if TYPE_CHECKING:  # DRF's views import this module while they are being imported
    from rest_framework.request import Request
    from rest_framework.views import APIView


class IsAuthenticatedOrOpenAccess(BasePermission):
    """Logged-in users, and anyone at all with OPEN_ACCESS."""

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        return settings.OPEN_ACCESS or bool(request.user and request.user.is_authenticated)
