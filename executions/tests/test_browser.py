"""The pages in a real browser, as a person finds them."""

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

# ReDoc asks for it wherever it is; the policy keeps it from doing so.
REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"


@pytest.fixture
def service(installation):
    installation.start_server()
    return installation


@pytest.fixture
def page(browser: Browser, service, tmp_path):
    """A page that fails the test if it asks any other address for anything, or a script fails,
    or if it does what its Content-Security-Policy forbids.

    With SCREENSHOTS set, it leaves a picture in that folder.
    """
    page = browser.new_page(base_url=service.url, viewport={"width": 1200, "height": 900})
    outside, errors = [], []
    held_back: list[str] = []

    def note(request):
        is_held_back = request.failure == "csp"  # by the page's own policy, before it was sent
        if not is_held_back and not request.url.startswith((service.url, "data:", "blob:")):
            outside.append(request.url)

    page.on("requestfinished", note)
    page.on("requestfailed", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.expose_function("note_held_back", lambda what: held_back.append(what))
    page.add_init_script(
        """document.addEventListener("securitypolicyviolation", event =>
            note_held_back(`${event.violatedDirective} ${event.blockedURI} on ${location}`))"""
    )
    yield page
    page.close()
    assert [each for each in held_back if REDOC_LOGO not in each] == []
    assert outside == []
    assert errors == []


@pytest.fixture
def picture(request):
    def picture(page: Page, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return picture


def test_the_root_leads_to_the_executions(page, picture):
    page.goto("/")
    picture(page, "root")
    page.get_by_role("link", name="/executions").click()

    expect(page.get_by_role("heading", name="Execution List")).to_be_visible()


def test_creates_by_the_form_and_shows_the_result(page, service, picture):
    service.start_worker()
    page.goto("/executions/")
    picture(page, "list-empty")
    body = page.locator("textarea[name=_content]")
    assert set(json.loads(body.input_value())) == {"project_id", "bead_id", "context", "timeout"}
    body.fill('{"project_id": "shop", "bead_id": "shop-42", "context": "é <b>"}')
    page.get_by_role("button", name="POST").click()
    expect(page.get_by_text("HTTP 201 Created")).to_be_visible()
    picture(page, "created")

    address = page.locator(".response-info").inner_text().split("Location: ")[1].split()[0]
    page.goto(address)
    expect(page.locator(".response-info")).to_contain_text("shop-42")
    picture(page, "detail")


def test_cancels_and_retries_by_buttons(page, service, picture):
    execution = service.post()
    page.goto(f"/executions/{execution['id']}")
    picture(page, "detail-pending")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".response-info")).to_contain_text('"cancelled"')
    assert service.get(execution)["status"] == "cancelled"

    picture(page, "detail-cancelled")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("HTTP 201 Created")).to_be_visible()
    expect(page.locator(".response-info")).to_contain_text(f'"retry_of": "{execution["id"]}"')


def test_shows_what_is_wrong_with_a_form(page, picture):
    page.goto("/executions/")
    page.locator("textarea[name=_content]").fill('{"project_id": "", "colour": 1}')
    page.get_by_role("button", name="POST").click()

    expect(page.get_by_text("HTTP 400 Bad Request")).to_be_visible()
    expect(page.locator(".response-info")).to_contain_text("Unknown field.")
    picture(page, "error")


def test_follows_the_pages(page, service, picture):
    for number in range(5):
        service.post(bead_id=f"bead-{number}")
    page.goto("/executions/?limit=2")
    seen = page.locator(".response-info").inner_text()
    picture(page, "page")
    while page.locator(".pager li.next:not(.disabled) a").count():
        page.locator(".pager li.next a").click()
        seen += page.locator(".response-info").inner_text()

    assert [number for number in range(5) if f'"bead-{number}"' in seen] == list(range(5))


@pytest.mark.parametrize(
    ("url", "text"), [("/docs", "Start an execution"), ("/redoc", "Start an execution")]
)
def test_the_docs_need_no_other_address(page, picture, url, text):
    page.goto(url)

    expect(page.get_by_text(text).locator("visible=true").first).to_be_visible(timeout=30_000)
    page.wait_for_load_state("networkidle")
    picture(page, url.strip("/"))


def test_the_admin_lists_and_shows(page, service, picture):
    service.start_worker()
    ended = service.wait_for_end(service.post(context="<i>escaped</i>"))
    service.manage(
        "createsuperuser",
        "--noinput",
        "--username=ada",
        "--email=",
        DJANGO_SUPERUSER_PASSWORD="correct horse",
    )
    page.goto("/admin/executions/execution/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name=ended["id"])).to_be_visible()
    picture(page, "admin-list")
    page.get_by_role("link", name=ended["id"]).click()

    expect(page.locator("pre")).to_contain_text("context <i>escaped</i>")
    assert page.get_by_role("button", name="Save").count() == 0
    picture(page, "admin-detail")

    page.goto("/admin/executions/apitoken/add/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Save", exact=True).click()
    secret = page.locator("#secret").inner_text()
    answer = page.request.get("/executions/", headers={"Authorization": f"Token {secret}"})
    assert answer.ok
    picture(page, "admin-token")
    page.goto("/admin/executions/projectlimit/add/")
    picture(page, "admin-limit")


def test_logs_in_and_out_of_the_browsable_api(page, service, picture):
    service.manage("shell", "-v0", "-c", MAKE_STARTER)
    page.goto("/executions/")
    page.get_by_role("link", name="Log in").click()
    picture(page, "login")
    page.get_by_label("Username").fill("bob")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    page.get_by_label("Username").fill("bob")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()

    page.locator("textarea[name=_content]").fill('{"project_id": "shop", "bead_id": "shop-42"}')
    page.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text('"requested_by": "bob"')
    picture(page, "logged-in")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


MAKE_STARTER = """
from executions.tests.helpers import make_user
bob = make_user("bob", "starter")
bob.set_password("correct horse")
bob.save()
"""


COLOURS = (
    r"printf '\033[31mred \033[1;32mgreen\033[0m <b>not bold</b> <script>window.hit=1</script>\n'"
)


@pytest.mark.parametrize(("name", "width"), [("desktop", 1200), ("phone", 375)])
def test_watches_an_execution_live(page, service, picture, name, width):
    service.start_worker(EXECUTION_COMMAND="sh -c 'eval \"$CONTEXT\"'", EXECUTION_GRACE_PERIOD="1")
    page.set_viewport_size({"width": width, "height": 800})
    script = (
        f"{COLOURS}; for i in $(seq 1 60); do echo line $i; done; sleep 2; echo later; sleep 600"
    )
    execution = service.post("shop", "shop-42", context=script)

    page.goto(f"/executions/{execution['id']}")
    page.get_by_role("link", name="Watch").click()
    output = page.locator("#output")
    expect(output).to_contain_text("line 60")
    expect(page.locator("#status")).to_have_text("running")
    expect(output).to_contain_text("later")  # it came while the page was open
    expect(page.locator(".ansi-red-fg")).to_have_text("red ")
    expect(page.locator(".ansi-green-fg")).to_have_css("font-weight", "700")
    expect(output).to_contain_text("<b>not bold</b> <script>window.hit=1</script>")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert output.evaluate("e => e.scrollTop + e.clientHeight >= e.scrollHeight - 2")
    picture(page, f"watch-{name}")

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Follow")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_have_text("cancelled", timeout=15_000)
    picture(page, f"watch-{name}-cancelled")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: execution["id"] not in url)
    expect(page.locator("#status")).to_have_text("running")


def test_an_event_source_reads_the_stream_to_its_end(page, service):
    service.start_worker(EXECUTION_COMMAND="sh -c 'eval \"$CONTEXT\"'")
    execution = service.post(context="for i in 1 2 3; do echo line $i; sleep 0.3; done")
    page.goto("/livez")

    heard = page.evaluate(
        """url => new Promise(resolve => {
            const heard = [], source = new EventSource(url);
            source.addEventListener("output", event => heard.push(event.data));
            source.addEventListener("end", () => { source.close(); resolve(heard.join("")); });
        })""",
        f"/executions/{execution['id']}/output",
    )

    assert heard == "line 1\nline 2\nline 3\n"
