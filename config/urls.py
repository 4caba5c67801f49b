"""Where everything is."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import (
    SpectacularJSONAPIView,
    SpectacularRedocView,
    SpectacularSwaggerView,
)

from executions import views

urlpatterns = [
    path("", include("executions.urls")),
    path("admin/", admin.site.urls),
    path("accounts/", include("rest_framework.urls")),  # the browsable API's login and logout
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="schema"),
    path("docs", SpectacularSwaggerView.as_view(), name="docs"),
    path("redoc", SpectacularRedocView.as_view(), name="redoc"),
    path("livez", views.livez, name="livez"),
    path("readyz", views.readyz, name="readyz"),
]
handler400 = "rest_framework.exceptions.bad_request"
handler404 = "executions.views.not_found"
handler500 = "rest_framework.exceptions.server_error"
