"""Where everything is, each with and without the trailing slash."""

from csp.decorators import csp_update
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import (
    SpectacularJSONAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)

from executions import throttling, views

# The browsable API's login and logout, by the names that it knows them by.
ACCOUNTS = [
    path(
        "login/",
        throttling.limit_logins(LoginView.as_view(template_name="executions/login.html")),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
]

redoc = csp_update({"style-src": ["'self'", *settings.REDOC_STYLES], "worker-src": ["blob:"]})(
    SpectacularRedocView.as_view()
)

urlpatterns = [
    path("", include("executions.urls")),
    path("admin/", admin.site.urls),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("accounts/", include((ACCOUNTS, "rest_framework"))),
    re_path(r"^openapi\.json/?$", SpectacularJSONAPIView.as_view(), name="schema"),
    re_path("^docs/?$", SpectacularSwaggerSplitView.as_view(), name="docs"),
    re_path("^redoc/?$", redoc, name="redoc"),
    re_path("^livez/?$", views.livez, name="livez"),
    re_path("^readyz/?$", views.readyz, name="readyz"),
]
handler400 = "executions.views.bad_request"
handler404 = "executions.views.not_found"
handler500 = "executions.views.server_error"
