"""What the API asks before each call: `access` decides, this only passes it on."""

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission

from executions.access import EVERYTHING, NOTHING, Access, access_of
from executions.authentication import authenticate_again

if TYPE_CHECKING:  # DRF's views import this module while they are being imported
    from rest_framework.request import Request
    from rest_framework.views import APIView


def access_to(request: "Request") -> Access:
    """What the caller may do: a user what their roles say, nobody in particular what is open."""
    return _access_of_caller(request.user)


def access_now(request: "Request") -> Access:
    """The same, for an answer that takes long: asked anew."""
    return _access_of_caller(authenticate_again(request))


def _access_of_caller(user: User | AnonymousUser) -> Access:
    if user.is_authenticated:
        return access_of(user)
    return EVERYTHING if settings.OPEN_ACCESS else NOTHING


class MayCall(BasePermission):
    def has_permission(self, request: "Request", view: "APIView") -> bool:
        # Of a user SessionAuthentication has asked more: a CSRF token.
        if settings.OPEN_ACCESS and _is_a_change_from_another_site(request):
            raise PermissionDenied("Another site's page may start and change nothing.")
        return access_to(request).may_call(getattr(view, "action", None))


def _is_a_change_from_another_site(request: "Request") -> bool:
    """Whether a browser sent this from a foreign page: it then says from which."""
    origin = request.headers.get("Origin")
    own = f"{request.scheme}://{request.get_host()}"
    return request.method not in SAFE_METHODS and origin not in (None, own)
