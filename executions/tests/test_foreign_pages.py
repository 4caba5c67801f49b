"""Pages of another site, in a real browser: they start, steer and read nothing."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from executions.tests.installation import Installation

PAGE = b"""<!DOCTYPE html><title>Win a prize</title><iframe name=answer></iframe>"""


class ForeignSite(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


@pytest.fixture
def foreign_url():
    """A site on another port: the same host, so that SameSite alone keeps no cookie back."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ForeignSite)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


MAKE_ADMIN = """
from django.contrib.auth.models import User
User.objects.create_superuser("root", password="correct horse")
"""


@pytest.fixture(scope="module", params=["open access", "a session"])
def victim(request, browser, tmp_path_factory, migrated_database):
    """A page in a browser that may call the API, and an execution that waits."""
    data_dir = tmp_path_factory.mktemp("victim") / "data"
    with Installation(data_dir, template=migrated_database) as installation:
        yield from open_victim(browser, installation, is_open=request.param == "open access")


def open_victim(browser, installation, *, is_open):
    installation.manage("shell", "-v0", "-c", MAKE_ADMIN)
    token = {"Authorization": f"Token {installation.manage('create_token', 'root').strip()}"}
    installation.start_server(OPEN_ACCESS="on" if is_open else "off")
    page = browser.new_page()
    if not is_open:
        page.goto(f"{installation.url}/admin/")
        page.get_by_label("Username").fill("root")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("link", name="Executions").first).to_be_visible()
    body = {"project_id": "p", "bead_id": "b"}
    made = page.request.post(f"{installation.url}/executions/", data=body, headers=token)
    assert made.status == 201

    def list_all():
        answer = page.request.get(f"{installation.url}/executions/", headers=token)
        return [(each["id"], each["status"]) for each in answer.json()]

    yield page, installation.url, made.json()["id"], list_all
    page.close()


FORM = """([url, enctype, fields]) => {
    const form = document.createElement("form");
    Object.assign(form, { action: url, method: "POST", enctype, target: "answer" });
    for (const [name, value] of Object.entries(fields)) {
        const input = document.createElement("input");
        Object.assign(input, { type: "hidden", name, value });
        form.append(input);
    }
    document.body.append(form);
    form.submit();
}"""

# As text/plain a form sends name=value: together they are JSON.
AS_JSON = {'{"project_id": "evil", "bead_id": "b", "context": "': '"}'}


def test_a_form_starts_and_cancels_nothing(victim, foreign_url):
    page, url, execution, list_all = victim
    page.goto(foreign_url)
    plain = {"project_id": "evil", "bead_id": "b"}
    steer = {"action": "cancel", "_selected_action": execution}
    for path, enctype, fields in [
        ("/executions/", "text/plain", AS_JSON),
        ("/executions/", "application/x-www-form-urlencoded", plain),
        ("/executions/", "multipart/form-data", plain),
        (f"/executions/{execution}/cancel", "application/x-www-form-urlencoded", {}),
        (f"/executions/{execution}/cancel", "text/plain", {}),
        (f"/executions/{execution}/retry", "text/plain", {}),
        ("/admin/executions/execution/", "application/x-www-form-urlencoded", steer),
    ]:
        with page.expect_response(lambda response: response.request.method == "POST") as answer:
            page.evaluate(FORM, [f"{url}{path}", enctype, fields])
        assert answer.value.status in (302, 403, 415), (path, enctype)

    assert list_all() == [(execution, "pending")]


FETCH = """([url, options]) => fetch(url, { credentials: "include", ...options })
    .then(answer => answer.type === "opaque" ? "sent, unreadable" : answer.text())
    .catch(error => "refused by the browser")"""


@pytest.mark.parametrize("mode", ["no-cors", "cors"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_a_script_starts_nothing(victim, foreign_url, mode, content_type):
    page, url, execution, list_all = victim
    page.goto(foreign_url)
    body = '{"project_id": "evil", "bead_id": "b"}'
    for path, content in (("", body), (f"{execution}/cancel", "{}"), (f"{execution}/cancel", "")):
        headers = {"Content-Type": content_type}
        options = {"method": "POST", "mode": mode, "headers": headers, "body": content}
        said = page.evaluate(FETCH, [f"{url}/executions/{path}", options])
        assert said in ("sent, unreadable", "refused by the browser")

    assert list_all() == [(execution, "pending")]


def test_a_script_reads_nothing_and_no_page_is_framed(victim, foreign_url):
    page, url, execution, _ = victim
    page.goto(foreign_url)

    for path in ("/executions/", f"/executions/{execution}/output", "/openapi.json"):
        assert page.evaluate(FETCH, [f"{url}{path}", {}]) == "refused by the browser"
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.evaluate("url => { frames.answer.location = url; }", f"{url}/executions/{execution}/watch")
    expect(page.frame_locator("iframe").locator("#status")).to_have_count(0)
    page.wait_for_timeout(500)
    assert any("frame-ancestors" in each or "X-Frame-Options" in each for each in refused)
