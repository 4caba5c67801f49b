"""Where everything is, each with and without the trailing slash."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import (
    SpectacularJSONAPIView,
    SpectacularRedocView,
    SpectacularSwaggerView,
)

from executions import throttling, views

# The browsable API's login and logout, by the names that it knows them by.
ACCOUNTS = [
    path(
        "login/",
        throttling.limit_logins(LoginView.as_view(template_name="rest_framework/login.html")),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
]

urlpatterns = [
    path("", include("executions.urls")),
    path("admin/", admin.site.urls),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("accounts/", include((ACCOUNTS, "rest_framework"))),
    re_path(r"^openapi\.json/?$", SpectacularJSONAPIView.as_view(), name="schema"),
    re_path("^docs/?$", SpectacularSwaggerView.as_view(), name="docs"),
    re_path("^redoc/?$", SpectacularRedocView.as_view(), name="redoc"),
    re_path("^livez/?$", views.livez, name="livez"),
    re_path("^readyz/?$", views.readyz, name="readyz"),
]
handler400 = "executions.views.bad_request"
handler404 = "executions.views.not_found"
handler500 = "executions.views.server_error"
