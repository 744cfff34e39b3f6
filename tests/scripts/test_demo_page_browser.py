"""The page where one draws, in a real browser: loaded from the disk, with the network off."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments import demo_page
from experiments.benchmarks import chromium
from tests.scripts.demo_page import IMAGES, SIDE, differing, expected, names

# Where it is set, what is missing is a failure: nothing is skipped unseen.
REQUIRED = bool(os.environ.get("REQUIRE_BROWSER"))
pytestmark = pytest.mark.skipif(
    chromium.find() is None and not REQUIRED, reason="no Chromium is found"
)

# `npm pack axe-core` has it; it is no part of the project.
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
KEYS = {"ArrowRight": 39, "ArrowDown": 40, "Enter": 13, " ": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    demo_page.main(["--no-open", f"--output={folder}"])
    return folder


@pytest.fixture(scope="module")
def browser(folder):
    with chromium.Page((folder / "index.html").as_uri(), offline=True) as page:
        yield page


@pytest.fixture
def page(browser):
    """As it is when it is opened, once it has drawn the first six."""
    browser.events.clear()
    browser.resize(1280, 1000)
    browser.call("Page.reload")
    browser.wait("typeof result !== 'undefined' && result")
    settle(browser)
    yield browser
    trouble = [
        event
        for event in browser.events
        if event["method"]
        in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    ]
    assert trouble == []


def settle(page):
    page.wait("result.shown === SITES && element('status').textContent.includes('computed in')")


def state(page):
    """The drawing, what is known of it, and the six images, as they stand."""
    code = "[drawing.ink, drawing.known, result.known, result.levels].map((a) => Array.from(a))"
    ink, known, asked, levels = page.evaluate(code)
    shape = (SIDE, SIDE)
    images = np.array(levels).reshape(IMAGES, *shape)
    return (*(np.array(x).reshape(shape) for x in (ink, known, asked)), images)


def click(page, name):
    page.evaluate(f"element({json.dumps(name)}).click()")


def choose(page, name, value):
    page.evaluate(f"document.querySelector('input[name={name}][value={value}]').click()")


def set_range(page, name, value):
    page.evaluate(
        f"element('{name}').value = {value}; "
        f"for (const kind of ['input', 'change']) element('{name}').dispatchEvent(new Event(kind))"
    )


def place(page, row, column):
    """The middle of a pixel of the drawing, in the window."""
    page.evaluate("board.scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y, size = page.evaluate(
        "(({ x, y }) => [x + board.clientLeft, y + board.clientTop, board.clientWidth])"
        "(board.getBoundingClientRect())"
    )
    return {"x": x + (column + 0.5) * size / SIDE, "y": y + (row + 0.5) * size / SIDE}


def mouse(page, *places):
    for kind, at in (("Pressed", places[0]), *(("Moved", p) for p in places[1:])):
        page.call(
            "Input.dispatchMouseEvent", type=f"mouse{kind}", button="left", **place(page, *at)
        )
    at = place(page, *places[-1])
    page.call("Input.dispatchMouseEvent", type="mouseReleased", button="left", **at)


def press(page, key, shift=False):
    codes = {"key": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift}
    text = {"text": " "} if key == " " else {}
    page.call("Input.dispatchKeyEvent", type="keyDown", **codes, **text)
    page.call("Input.dispatchKeyEvent", type="keyUp", **codes)


def test_loads_from_the_disk_and_asks_nobody(page, folder):
    requests = [
        event["params"]["request"]["url"]
        for event in page.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    own = tuple((folder / name).as_uri() for name in (*demo_page.FILES, "models.js"))
    assert set(own) <= set(requests)
    assert all(url.startswith(("blob:", *own)) for url in requests)
    with pytest.raises(RuntimeError, match="Failed to fetch"):
        page.evaluate("fetch('https://example.org')")
    page.events[:] = [e for e in page.events if e["method"] != "Log.entryAdded"]  # of this


def test_draws_by_mouse_and_completes(page):
    click(page, "clear")
    assert state(page)[0].sum() == state(page)[1].sum() == 0
    mouse(page, (6, 8), (6, 18), (11, 18))
    ink, known, _, _ = state(page)
    assert ink[6, 8:19].all()
    assert ink[6:12, 18].all()
    last = np.flatnonzero(ink.any(axis=1))[-1]
    np.testing.assert_array_equal(known, np.repeat(np.arange(SIDE) <= last, SIDE).reshape(28, 28))
    click(page, "complete")
    settle(page)
    _, _, asked, images = state(page)
    np.testing.assert_array_equal(asked, known)
    assert (images[:, known == 1] == ink[known == 1]).all()
    assert len({image.tobytes() for image in images}) == IMAGES
    assert images[:, known == 0].any(axis=1).all()
    # What is shown is what was drawn: ink of one's own in one colour, the model's in another.
    shown = np.array(
        page.evaluate(
            "Array.from(canvases[2].getContext('2d').getImageData(0, 0, SIDE, SIDE).data)"
        )
    ).reshape(SIDE, SIDE, 4)[..., :3]
    kinds = np.where(images[2] == 1, 1 + known, 0)
    colours = [{tuple(colour) for colour in shown[kinds == kind].tolist()} for kind in range(3)]
    assert [len(of_kind) for of_kind in colours] == [1, 1, 1]
    assert len(set.union(*colours)) == 3


def test_images_appear_pixel_by_pixel(page):
    page.evaluate(
        """new Promise((done) => {
            window.seen = [];
            surprise();
            const look = () => {
                seen.push(result.shown);
                result.shown < SITES ? requestAnimationFrame(look) : done();
            };
            look();
        })"""
    )
    seen = np.array(page.evaluate("seen"))
    assert (np.diff(seen) >= 0).all()
    between = seen[(seen > 0) & (seen < SIDE * SIDE)]
    assert (between % SIDE != 0).any()  # within a row, too
    assert len(between) > 3


def test_draws_by_touch_on_a_phone(page):
    page.resize(390, 844, mobile=True)
    click(page, "clear")
    for kind, at in (("touchStart", (4, 5)), ("touchMove", (9, 5)), ("touchEnd", None)):
        points = [] if at is None else [place(page, *at)]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    page.wait("drawing.ink.some(Boolean)")
    assert state(page)[0][4:10, 5].all()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, .segments label, input[type=number]')]"
        ".filter((e) => e.getBoundingClientRect().height < 36).map((e) => e.outerHTML)"
    )
    assert small == []


def test_of_several_fingers_the_first_draws(page):
    click(page, "clear")
    for kind, rows in (("touchStart", (4, 4)), ("touchMove", (9, 9)), ("touchMove", (12, 12))):
        fingers = zip(rows, (5, 22), strict=True)
        points = [{**place(page, *at), "id": i} for i, at in enumerate(fingers)]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.wait("drawing.ink.some(Boolean) && !pen")
    ink = state(page)[0]
    assert ink[4:13, 5].all()
    assert not ink[:, 8:].any()
    mouse(page, (20, 22), (20, 24))
    assert state(page)[0][20, 22:25].all()


def test_draws_by_keyboard_alone(page):
    click(page, "clear")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("board.focus({ focusVisible: true })")
    before = page.evaluate("board.toDataURL()")
    press(page, "ArrowDown")
    assert page.evaluate("board.toDataURL()") != before  # where one is can be seen
    row, column = page.evaluate("[cursor.row, cursor.column]")
    press(page, " ")
    for _ in range(3):
        press(page, "ArrowRight", shift=True)
    ink = state(page)[0]
    assert ink[row, column : column + 4].all()
    assert page.evaluate("element('where').textContent") == (
        f"Row {row + 1}, column {column + 4}: ink, known"
    )
    number = page.evaluate("result.id")
    press(page, "Enter")
    page.wait(f"result.id > {number}")
    settle(page)


def test_what_is_known_can_be_marked(page):
    set_range(page, "rows", 20)
    assert state(page)[1].sum() == 20 * SIDE
    assert page.evaluate("element('rows-shown').value") == "20"
    assert not page.evaluate("element('follow').checked")
    choose(page, "tool", "unknown")
    mouse(page, (3, 3), (3, 9))
    choose(page, "tool", "known")
    mouse(page, (25, 3), (25, 9))
    ink, known, _, _ = state(page)
    assert not known[3, 3:10].any()
    assert known[25, 3:10].all()
    assert page.evaluate("element('rows-shown').value") == "marked by hand"
    click(page, "complete")
    settle(page)
    images = state(page)[3]
    assert (images[:, known == 1] == ink[known == 1]).all()
    click(page, "follow")
    rows = np.flatnonzero(ink.any(axis=1))[-1] + 1
    assert state(page)[1].sum() == rows * SIDE
    choose(page, "tool", "erase")
    mouse(page, (rows - 1, 2), (rows - 1, 25))
    assert not state(page)[0][rows - 1].any()


def test_surprise_me_is_of_nothing_and_of_its_seed(page):
    label = "canvases[2].getAttribute('aria-label')"
    assert page.evaluate(label) == "Completion 3 of 6"
    page.evaluate("element('seed').select()")
    page.call("Input.insertText", text="77")  # one that is typed is kept
    click(page, "surprise")
    settle(page)
    assert page.evaluate("result.seed") == 77
    assert page.evaluate(label) == "Sample 3 of 6"
    ink, _, asked, images = state(page)
    assert asked.sum() == 0
    assert ink.any()  # the drawing stays
    assert "from nothing" in page.evaluate("element('status').textContent")
    click(page, "surprise")
    settle(page)
    np.testing.assert_array_equal(state(page)[3], images)
    # One that is asked for while another is drawn takes its place.
    page.evaluate("for (let i = 0; i < 5; i++) setTimeout(surprise, 15 * i)")
    page.wait("result.id >= 8")
    settle(page)
    page.evaluate(  # a row of one before it, on its way meanwhile
        """receive({
            id: result.id - 1,
            row: 0,
            levels: new Uint8Array(IMAGES * SIDE).fill(1),
            probabilities: new Float32Array(IMAGES * SIDE),
        })"""
    )
    np.testing.assert_array_equal(state(page)[3], images)
    click(page, "keep")
    click(page, "surprise")
    settle(page)
    assert (state(page)[3] != images).any()


def test_temperature_and_model_draw_anew_from_the_same_noise(page):
    before = state(page)[3]
    set_range(page, "temperature", 0.5)
    settle(page)
    colder = state(page)[3]
    assert (colder != before).any()
    set_range(page, "temperature", 1)
    settle(page)
    np.testing.assert_array_equal(state(page)[3], before)
    page.evaluate(
        "element('model').selectedIndex = 1; element('model').dispatchEvent(new Event('change'))"
    )
    settle(page)
    assert "triangle" in page.evaluate("element('about-model').textContent")
    assert (state(page)[3] != before).any()


def test_probabilities_are_shown(page):
    picture = "canvases.map((canvas) => canvas.toDataURL())"
    pixels = page.evaluate(picture)
    choose(page, "view", "probabilities")
    shown = page.evaluate(picture)
    assert all(a != b for a, b in zip(pixels, shown, strict=True))
    # Darker, the likelier: the colour of a pixel is between paper and ink by its probability.
    red, probability, known = page.evaluate(
        """[
            Array.from(canvases[0].getContext('2d').getImageData(0, 0, SIDE, SIDE).data)
                .filter((_, i) => i % 4 === 0),
            Array.from(result.probabilities.subarray(0, SITES), (p) => p || 0),
            Array.from(result.known),
        ]"""
    )
    drawn = np.array(known) == 0
    red, probability = np.array(red)[drawn], np.array(probability)[drawn]
    paper, full = red.max(), page.evaluate("parseInt(colours.drawn.slice(1, 3), 16)")
    np.testing.assert_allclose(red, paper + (full - paper) * probability, atol=2)
    x, y, width = page.evaluate(
        "(({ x, y, width }) => [x, y, width])(canvases[1].getBoundingClientRect())"
    )
    at = {"x": x + 0.52 * width, "y": y + 0.98 * width}
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    assert "Row 28, column 15: probability of ink 0." in page.evaluate(
        "element('readout').textContent"
    )


def test_for_the_same_noise_it_draws_what_the_library_draws(page):
    name = names()[0]
    wanted = expected(name)
    request = {
        "given": wanted.given.ravel().tolist(),
        "known": wanted.known.ravel().astype(int).tolist(),
        "noise": wanted.noise.ravel().tolist(),
    }
    page.evaluate(
        f"""{{
            const asked = {json.dumps(request)};
            element('model').value = {json.dumps(name)};
            element('temperature').value = {wanted.temperature};
            const [given, known] = [asked.given, asked.known].map((a) => Uint8Array.from(a));
            run({{ given, known, seed: 0, noise: Float64Array.from(asked.noise), what: '' }});
        }}"""
    )
    settle(page)
    assert differing(state(page)[3], name) <= 1e-3


def test_says_so_where_models_js_is_missing(tmp_path):
    for name in demo_page.FILES:
        (tmp_path / name).write_bytes((demo_page.SOURCES / name).read_bytes())
    with chromium.Page((tmp_path / "index.html").as_uri()) as page:
        said = page.evaluate("element('status').textContent")
    assert said.endswith("models.js is missing, which python -m experiments.demo_page writes.")


def test_a_request_that_fails_is_over(page):
    page.evaluate("run({ given: drawing.ink, known: [], seed: 1, what: 'completions' })")
    page.wait("element('status').matches('.trouble')")
    frames = page.evaluate(
        """new Promise((done) => {
            const ask = window.requestAnimationFrame;
            let count = 0;
            window.requestAnimationFrame = (next) => ask(next, ++count);
            setTimeout(() => done(count, (window.requestAnimationFrame = ask)), 300);
        })"""
    )
    assert frames == 0
    click(page, "complete")
    settle(page)
    assert not page.evaluate("element('status').matches('.trouble')")


@pytest.mark.skipif(
    not AXE.exists() and not REQUIRED, reason="no axe-core at $AXE_CORE, nor in node_modules"
)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_is_accessible(page, width, dark):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme])
    page.resize(width, 844, mobile=width < 500)
    page.evaluate(AXE.read_text() + "; null")
    result = page.evaluate("axe.run({ preload: false })")  # which fetches
    page.call("Emulation.setEmulatedMedia", features=[])
    assert [(found["id"], found["nodes"]) for found in result["violations"]] == []
    assert "color-contrast" in {found["id"] for found in result["passes"]}
