"""The report in a real browser: from disk, with the network cut, by keyboard, on a phone, with a thousand variants."""

import re
import time

import pytest

from prior_store.testing import recipe_of
from tasks.pages.report import write_report, write_single_file

NASTY = 'a fox says "hi" & <script>document.title = "owned"</script> <img src=x onerror=alert(1)> **bold** [a](http://e.x) \'"'


def a_batch(made, prompts, **more):
    """One prior and a variant for each prompt, all there."""
    made.media()
    rows = [
        made.variant(f"row-{number}", "p", prompt=prompt, tags=["even" if number % 2 == 0 else "odd"])
        for number, prompt in enumerate(prompts)
    ]
    made.plan("b", [made.prior("p", **more)], rows)
    made.store.add_rows([made.row_of("priors", "p"), *(made.row_of("variants", row["id"]) for row in rows)])
    write_report(made.store, "b")
    return made.store.files.local_path("batches/b/report.html").as_uri()


@pytest.fixture
def opened(chromium):
    """`opened(address, **how)` is a page with the network cut; what it asked for and complained of is kept."""
    contexts = []

    def open_page(address, **how):
        context = chromium.new_context(offline=True, **how)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def until(page, expression):
    """Wait for something to become true; the page's own policy forbids the waiting that the driver would do inside it."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never became true: {expression}"
        time.sleep(0.05)


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{item['impact']} {item['id']}: {item['nodes'][0]['html'][:200]}" for item in found]


def test_prompts_are_text_whatever_they_hold(made, opened):
    page = opened(a_batch(made, [NASTY]))
    assert page.title() == "b - Headstart"
    assert page.locator("li.card .prompt").inner_text() == NASTY
    page.hover("li.card video")
    assert NASTY in page.locator("li.card .more").inner_text()
    assert page.locator("main img, main b, main script").count() == 0
    assert page.complaints == []


def test_a_name_of_an_identity_cannot_break_out_either(made, opened):
    page = opened(a_batch(made, ["x"], identity='"><script>document.title="owned"</script>'))
    assert page.title() == "b - Headstart"
    assert page.locator("h2").inner_text().startswith('"><script>')


def test_videos_play_from_disk_and_nothing_is_asked_of_the_network(made, opened):
    page = opened(a_batch(made, ["one", "two"]))
    until(page, "[...document.querySelectorAll('video')].every((video) => !video.paused && video.readyState > 1)")
    assert page.locator("video").count() == 3
    assert all(re.match("file:|data:", address) for address in page.asked)
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_no_violation_of_accessibility(made, opened, scheme, width):
    rows = [made.variant("good", "p"), made.variant("bad", "p"), made.variant("never", "p", tags=["t"])]
    made.media()
    made.plan("b", [made.prior("p"), made.prior("p2", seed=8)], rows)
    made.row("priors", "p")
    made.row("priors", "p2", status="failed", error="boom")
    made.row("variants", "good", batch="before")
    made.row("variants", "bad", status="failed", error="it broke")
    write_report(made.store, "b")
    address = made.store.files.local_path("batches/b/report.html").as_uri()
    page = opened(address, color_scheme=scheme, viewport={"width": width, "height": 900})
    assert violations(page) == []
    page.locator("details").last.evaluate("(element) => { element.open = true; }")
    page.locator("li.card video").first.focus()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out to the side"


def test_the_check_of_accessibility_can_fail(made, opened):
    page = opened(a_batch(made, ["x"]))
    page.evaluate("document.querySelector('h1').outerHTML = '<img src=\"data:,\"><h4 style=\"color: #eee\">b</h4>'")
    assert any("image-alt" in found for found in violations(page))


def test_filters_and_the_count(made, opened):
    page = opened(a_batch(made, ["a red fox", "a blue fox", "a red owl"]))
    shown = page.locator("li.card:visible")
    assert page.locator("#count").inner_text() == "3 variants shown."
    page.select_option("select[name=tag]", "odd")
    assert shown.count() == 1
    page.select_option("select[name=tag]", "")
    page.fill("input[name=words]", "RED fox")
    assert shown.count() == 1
    assert page.locator("#count").inner_text() == "1 variant shown."
    page.fill("input[name=words]", "nowhere")
    assert page.locator("section.identity:visible").count() == 0


def test_all_of_it_by_keyboard(made, opened):
    page = opened(a_batch(made, ["one", "two", "three"]))
    until(page, "document.querySelectorAll('video[src]').length === 4")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "VIDEO":
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.getAttribute('aria-label')") == "row-1"
    assert page.locator("li.card:nth-child(2) .more").is_visible()
    assert not page.locator("li.card:nth-child(1) .more").is_visible()
    before = page.evaluate(f"{focused}.paused")
    page.keyboard.press("Space")
    assert page.evaluate(f"{focused}.paused") != before


def test_a_tap_shows_prompt_and_seed(made, opened):
    page = opened(a_batch(made, ["one"]), has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    assert not page.locator("li.card .more").is_visible()
    page.tap("li.card video")
    assert "seed 7" in page.locator("li.card .more").inner_text()
    assert page.locator("li.card .more").is_visible()


def test_nothing_moves_for_those_who_asked_for_stillness(made, opened):
    page = opened(a_batch(made, ["one"]), reduced_motion="reduce")
    until(page, "document.querySelectorAll('video[src]').length === 2")
    assert page.evaluate("[...document.querySelectorAll('video')].every((video) => video.paused)")
    page.click("#pause")
    until(page, "[...document.querySelectorAll('video')].some((video) => !video.paused)")


def test_a_thousand_variants_load_only_what_is_near(made, opened):
    page = opened(a_batch(made, [f"prompt {number}" for number in range(1000)]))
    loaded = "document.querySelectorAll('video[src]').length"
    until(page, f"{loaded} > 0")
    assert page.evaluate(loaded) < 80
    page.evaluate("document.querySelector('li.card:last-child').scrollIntoView()")
    until(page, "document.querySelector('li.card:last-child video').hasAttribute('src')")
    until(page, "!document.querySelector('li.card:nth-child(2) video').hasAttribute('src')")
    assert page.evaluate(loaded) < 80
    page.fill("input[name=words]", "prompt 999")
    assert page.locator("li.card:visible").count() == 1


def test_a_single_file_needs_no_store(made, opened, tmp_path):
    from prior_store import recipe_key

    made.media()
    recipe = recipe_of(1)
    with made.store.claim("variants", recipe_key(recipe)) as claim:
        for name in ("video.mp4", "preview.png"):
            claim.put_file(name, made.store.files.local_path(f"media/{name}"))
        claim.publish(recipe=recipe, row={"prompt": "x", "batch": "b"})
    row = {**made.variant("x", "p"), "key": recipe_key(recipe)}
    made.plan("b", [made.prior("p")], [row])
    out = write_single_file(made.store, "b", tmp_path / "elsewhere" / "report.html")
    made.store.files.local_path("").rename(tmp_path / "store moved away")
    page = opened(out.as_uri())
    until(page, "document.querySelector('video').readyState > 1")
    assert page.locator("a[href^='../']").count() == 0
    assert page.complaints == []
