from django.apps import AppConfig
from django.contrib.admin import apps as django_admin


class ExecutionsConfig(AppConfig):
    default = True
    name = "executions"

    def ready(self) -> None:
        from executions import audit, checks  # noqa: F401 — registers what they define


class ExecutionsAdminConfig(django_admin.AdminConfig):
    """Django's admin, with a site of our own."""

    default = False  # of this module
    default_site = "executions.sites.ExecutionsAdminSite"
