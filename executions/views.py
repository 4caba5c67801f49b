"""The API: from requests to `services` and back."""

from functools import partial
from typing import Any

from django.db import DatabaseError, connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from executions import audit, delivery, services
from executions.access import Access
from executions.exceptions import RETRY_AFTER, Conflict, UnprocessableRequest
from executions.filters import read_idempotency_key, read_list_parameters, read_output_parameters
from executions.models import Execution
from executions.pagination import ExecutionPagination
from executions.permissions import access_now, access_to
from executions.schema import describe_executions
from executions.serializers import (
    ExecutionCreateSerializer,
    ExecutionDetailSerializer,
    ExecutionSerializer,
    read_empty_body,
)
from executions.throttling import change_allowance


class FirstRenderer(BaseContentNegotiation):
    """Whatever the caller accepts: for a call that is not answered by a renderer."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


@describe_executions
class ExecutionViewSet(viewsets.GenericViewSet[Execution]):
    """Start, show and list executions."""

    queryset = Execution.objects.none()  # for the schema; reads go through services
    pagination_class = ExecutionPagination
    paginator: ExecutionPagination
    lookup_value_regex = "[^/]+"  # whatever is asked for: unknown is 404 in the API's own words

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action in ("create", "metadata"):  # OPTIONS describes what can be posted
            return ExecutionCreateSerializer
        if self.action == "list":
            return ExecutionSerializer
        return ExecutionDetailSerializer

    @property
    def access(self) -> Access:
        return access_to(self.request)

    def get_object(self) -> Execution:
        execution = services.get_execution(self.kwargs["pk"])
        if execution is None or not self.access.may_view(execution):
            raise NotFound("Execution not found")
        return execution

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        if request.method not in SAFE_METHODS:
            made = (
                response.data.get("id") if response.status_code == status.HTTP_201_CREATED else None
            )
            audit.record(
                self.action or "unknown",
                request,
                execution=self.kwargs.get("pk"),
                made=made,
                status=response.status_code,
            )
        return super().finalize_response(request, response, *args, **kwargs)

    def create(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        if not self.access.may_start_in(serializer.validated_data["project_id"]):
            raise PermissionDenied("You may not start executions of this project.")
        asked = {**serializer.validated_data, "requested_by": _user_of(request)}
        key = read_idempotency_key(request)
        try:
            with change_allowance(request.user):
                if key is None:
                    return self._accepted(services.start_execution(**asked))
                execution, replayed = services.start_execution_once(key, **asked)
        except services.KeyReusedError as error:
            raise UnprocessableRequest(
                "This Idempotency-Key was used for another request."
            ) from error
        response = self._accepted(execution)
        if replayed:
            response["Idempotent-Replayed"] = "true"
        return response

    def _accepted(self, execution: Execution) -> Response:
        return Response(
            ExecutionDetailSerializer(execution).data,
            status=status.HTTP_201_CREATED,
            headers={"Location": reverse("execution-detail", [execution.pk], request=self.request)},
        )

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    def list(self, request: Request) -> Response:
        asked = read_list_parameters(request.query_params)
        find = partial(services.list_executions, projects=self.access.projects, **asked)
        page = self.paginator.paginate(find, request)
        return self.paginator.get_paginated_response(self.get_serializer(page, many=True).data)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        read_empty_body(request)
        execution = self.get_object()
        if not self.access.may_cancel(execution):
            raise PermissionDenied("You may cancel only what you started.")
        try:
            with change_allowance(request.user):
                execution = services.cancel_execution(execution)
        except services.HasEndedError as error:
            raise Conflict("It has ended already, so it can't be cancelled.") from error
        ended = execution.status == Execution.Status.CANCELLED
        return Response(
            self.get_serializer(execution).data,
            status=status.HTTP_200_OK if ended else status.HTTP_202_ACCEPTED,
        )

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        read_empty_body(request)
        execution = self.get_object()
        if not self.access.may_retry(execution):
            raise PermissionDenied("You may retry only what you started.")
        try:
            with change_allowance(request.user):
                execution = services.retry_execution(execution, requested_by=_user_of(request))
        except services.HasNotEndedError as error:
            raise Conflict("It has not ended yet, so it can't be retried.") from error
        return self._accepted(execution)

    @action(
        detail=True,
        renderer_classes=[JSONRenderer],  # of errors; what is asked for is no rendering
        content_negotiation_class=FirstRenderer,
    )
    def output(self, request: Request, pk: str) -> HttpResponseBase:
        asked = read_output_parameters(request)
        execution = self.get_object()
        if "text/event-stream" in request.headers.get("Accept", ""):
            response = delivery.events(
                execution,
                request,
                offset=asked.get("offset", 0),
                may_go_on=lambda: access_now(request).may_view(execution),
            )
        elif "offset" in asked:
            response = delivery.since(
                execution, request, offset=asked["offset"], wait=asked.get("wait", 0)
            )
        else:
            response = delivery.whole(execution, request)
        if asked.get("download"):
            response["Content-Disposition"] = f'attachment; filename="execution-{pk}.txt"'
        return response

    @action(detail=True)
    def watch(self, request: Request, pk: str) -> HttpResponseBase:
        return render(request, "executions/watch.html", {"execution": self.get_object()})

    def get_extra_action_url_map(self) -> dict[str, str]:
        """None in the browsable API's menu: cancel and retry have buttons of their own."""
        return {}


def _user_of(request: Request) -> Any:
    return request.user if request.user.is_authenticated else None


def livez(request: HttpRequest) -> HttpResponse:
    """200 while the server answers at all."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """200 while the server can do its work; 503 without a database."""
    try:
        Execution.objects.newest_first().values("pk").first()
    except DatabaseError:
        connection.close()
        return JsonResponse(
            {"detail": "The database can't be reached."},
            status=503,
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    return JsonResponse({"status": "ok"})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400 in the shape of every other error: a Host that is not ours, a malformed header."""
    return JsonResponse({"detail": "Bad request."}, status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """500 in the shape of every other error."""
    return JsonResponse({"detail": "The server failed; its log says why."}, status=500)


def not_found(request: HttpRequest, exception: Http404) -> HttpResponse:
    """404 in the shape of every other error."""
    return JsonResponse({"detail": "Not found."}, status=404)
