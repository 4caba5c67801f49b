"""The admin: a window on executions."""

import pytest
from django.contrib.auth.models import Permission

from executions import claims, services
from executions.models import Execution
from executions.services import start_execution
from executions.tests.helpers import write_output

LIST = "/admin/executions/execution/"


@pytest.fixture
def admin(admin_client):
    return admin_client


def rows(response):
    assert response.status_code == 200
    return [each.bead_id for each in response.context["cl"].result_list]


def test_lists_the_newest_first(admin):
    for number in range(3):
        start_execution(project_id="p", bead_id=str(number))

    assert rows(admin.get(LIST)) == ["2", "1", "0"]


@pytest.mark.parametrize("term", ["a b", " a b ", "bead 7"])
def test_finds_a_whole_project_or_bead(admin, term):
    start_execution(project_id="a b", bead_id="bead 7")
    start_execution(project_id="a", bead_id="b")

    assert rows(admin.get(LIST, {"q": term})) == ["bead 7"]


def test_finds_an_id(admin, execution):
    start_execution(project_id="p", bead_id="other")

    assert rows(admin.get(LIST, {"q": str(execution.pk)})) == [execution.bead_id]
    assert rows(admin.get(LIST, {"q": "nothing"})) == []


def test_filters_by_status_and_time(admin, claimed):
    start_execution(project_id="p", bead_id="waiting")

    assert rows(admin.get(LIST, {"status__exact": "pending"})) == ["waiting"]
    assert len(rows(admin.get(LIST, {"started": "day"}))) == 2
    assert rows(admin.get(LIST, {"started": "day", "status__exact": "failed"})) == []


def test_goes_on_to_what_is_older(admin):
    for number in range(205):
        start_execution(project_id="p", bead_id=str(number))
    seen = []
    url = LIST + "?q=p"
    while url:
        response = admin.get(url)
        seen += rows(response)
        older = response.context["cl"].older_url
        url = older and LIST + older

    assert seen == [str(number) for number in reversed(range(205))]


def test_a_page_takes_the_same_queries_and_counts_nothing(admin, django_assert_max_num_queries):
    for _ in range(150):
        start_execution(project_id="p", bead_id="b")

    for query in ("", "?q=p", "?status__exact=pending"):
        with django_assert_max_num_queries(8) as queries:
            admin.get(LIST + query)
        ours = [each["sql"] for each in queries if "executions_execution" in each["sql"]]
        assert ours
        assert not [sql for sql in ours if "COUNT(" in sql or "OFFSET" in sql]
        assert all("LIMIT 101" in sql for sql in ours)


@pytest.mark.parametrize(
    "query", ["started=foo", "project_id__regex=(((", "started_at__year=9999999", "id__lt=x", "p=9"]
)
def test_a_strange_query_is_no_crash(admin, execution, query):
    assert admin.get(f"{LIST}?{query}").status_code in (200, 302, 400)


def test_shows_an_execution_and_its_output_escaped(admin, claimed):
    execution, token = claimed
    output = b"<script>alert(1)</script>\0\xff&"
    write_output(execution, token, output)

    page = admin.get(f"{LIST}{execution.pk}/change/").content.decode()

    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Fix the basket." in page


def test_shows_the_end_of_a_long_output(admin, claimed):
    execution, token = claimed
    output = b"begin" + b"x" * 200_000 + b"end"
    write_output(execution, token, output)

    page = admin.get(f"{LIST}{execution.pk}/change/").content.decode()

    assert "xend</pre>" in page
    assert "begin" not in page
    assert len(page) < 150_000


def test_nothing_can_be_added_edited_or_deleted(admin, execution):
    change = f"{LIST}{execution.pk}/change/"

    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(change, {"status": "completed"}).status_code == 403
    assert admin.post(f"{LIST}{execution.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Execution.objects.get().status == "pending"


@pytest.mark.parametrize("name", ["nonsense", "%00", "01a204e9-82c4-73ea-8b12-b77399aed641"])
def test_an_unknown_execution_is_no_crash(admin, name):
    assert admin.get(f"{LIST}{name}/change/").status_code in (302, 404)


def test_a_user_without_permission_sees_nothing(client, user, execution):
    user.is_staff = True
    user.save()
    client.force_login(user)

    assert client.get(LIST).status_code == 403


def act(admin, action, *executions):
    response = admin.post(
        LIST, {"action": action, "_selected_action": [each.pk for each in executions]}, follow=True
    )
    return [str(message) for message in response.context["messages"]]


def test_cancels_what_is_selected_and_reports_how_many(admin, claimed):
    running, _ = claimed
    waiting = [start_execution(project_id="p", bead_id="b") for _ in range(3)]
    ended = start_execution(project_id="q", bead_id="b")
    [(_, token)] = claims.claim_executions(worker="w", limit=1, lease=30)
    claims.finish_execution(waiting[0].pk, token=token, exit_code=0)

    said = act(admin, "cancel", running, *waiting)

    assert said == [
        "Cancelled: 2.",
        "Asked the workers to stop: 1.",
        "Passed over as ended already: 1.",
    ]
    ended.refresh_from_db()
    assert ended.status == "pending"  # it was not selected
    assert "cancel requested" in admin.get(LIST).content.decode()


def test_retries_what_is_selected_and_reports_how_many(admin, execution, admin_user):
    start_execution(project_id="p", bead_id="b")
    services.cancel_execution(execution)

    said = act(admin, "retry", *Execution.objects.all())

    assert said == ["Retried: 1.", "Passed over as not ended yet: 1."]
    retried = Execution.objects.get(retry_of=execution.pk)
    assert retried.requested_by == admin_user


def test_a_viewer_sees_but_does_not_steer(client, user, execution):
    user.is_staff = True
    user.user_permissions.add(Permission.objects.get(codename="view_execution"))
    user.save()
    client.force_login(user)

    page = client.get(LIST)
    assert rows(page) == [execution.bead_id]
    assert "Cancel the selected" not in page.content.decode()
    client.post(LIST, {"action": "cancel", "_selected_action": [execution.pk]})
    execution.refresh_from_db()
    assert execution.status == "pending"
