"""The API's paths, each with and without the trailing slash."""

from rest_framework.routers import DefaultRouter

from executions.views import ExecutionViewSet


class Router(DefaultRouter):
    include_format_suffixes = False

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"


router = Router()
router.register("executions", ExecutionViewSet, basename="execution")
urlpatterns = router.urls
