"""Pages in headless Chromium: drawn, zoomed, the cursor moved, by mouse and by keys; no errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser import PROGRAMS, Browser
from tests.many_connections import capture
from tests.unit.report.test_page import HOSTILE

from mptcplab.cli.main import main

HANDOVER = Path(__file__).parents[1] / "captures" / "handover.pcap.gz"

pytestmark = [pytest.mark.program("|".join(PROGRAMS)), pytest.mark.slow]

SCENARIO = """
title = "two links, one of which fails"
question = "Does a connection live through it?"
duration = "2s"
interval = "50ms"
hosts = ["phone", "server"]
timeline = [{ at = "800ms", down = "wifi" }, { at = "1400ms", up = "wifi" }]
links.wifi = { between = ["phone", "server"], rate = "8Mb/s", rtt = "10ms" }
links.mobile = { between = ["phone", "server"], rate = "4Mb/s", rtt = "30ms" }
flows.upload = { from = "phone", to = "server" }

[flows.asks]
from = "phone"
to = "server"
application = "request-response"
response = "2KB"
think = "exponential 20ms"
"""

PLOTS = "figure.plot .uplot canvas"
NOW = "document.querySelector('.clock output').textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(autouse=True)
def _no_complaint(browser: Browser) -> Iterator[None]:
    browser.complaints.clear()
    browser.size(1280, 1000)
    browser.prefer("light")
    yield
    assert browser.complaints == []
    assert not browser.had_dialog
    assert all(url.startswith(("file:", "blob:")) for url in browser.requests)


@pytest.fixture(name="run_page", scope="module")
def page_of_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "own.toml").write_text(SCENARIO)
    assert main(["run", str(folder / "own.toml"), "--out", str(folder / "run")]) == 0
    assert main(["page", str(folder / "run"), "-o", str(folder / "run.html")]) == 0
    return folder / "run.html"


def now(browser: Browser) -> float:
    """Return the time of the cursor."""
    return float(str(browser.value(NOW)).split()[2])


def ink(browser: Browser, number: int) -> int:
    """Return how many pixels of a plot are drawn."""
    return int(
        browser.value(
            f"(() => {{ const canvas = document.querySelectorAll('{PLOTS}')[{number}];"
            "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
            ".data; let count = 0; for (let k = 3; k < data.length; k += 4) count += data[k] > 0;"
            "return count; })()"
        )
    )


def build_all(browser: Browser) -> int:
    """Scroll through the page so that every plot is drawn; return how many there are."""
    height = browser.value("document.documentElement.scrollHeight")
    for place in range(0, int(height), 700):
        browser.value(f"scrollTo(0, {place})")
        browser.settle()
    return int(browser.value(f"document.querySelectorAll('{PLOTS}').length"))


def area(browser: Browser, plot: str) -> tuple[float, float, float, float]:
    """Bring a plot into view; return where it is drawn."""
    browser.box(f"[data-plot={plot}]")
    browser.until(f"document.querySelector('[data-plot={plot}] .u-over') !== null")
    return browser.box(f"[data-plot={plot}] .u-over")


def legend(browser: Browser, plot: str, row: int = 0, cell: int = 0) -> str:
    selector = f"[data-plot={plot}] .legend tbody tr:nth-child({row + 1}) td"
    return str(browser.value(f"document.querySelectorAll('{selector}')[{cell}].textContent"))


def test_every_plot_of_a_run_is_drawn(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    count = build_all(browser)
    figures = browser.value("document.querySelectorAll('figure.plot').length")
    assert count == figures
    assert count >= 9
    for number in range(count):
        assert ink(browser, number) > 1000, number
    keys = browser.value("[...document.querySelectorAll('[data-plot]')].map(x => x.dataset.plot)")
    assert {"goodput", "links", "throughput", "rtt", "windows", "limits", "times"} <= set(keys)


def test_the_cursor_moves_plots_network_and_values(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    left, top, width, height = area(browser, "links")
    browser.mouse("mouseMoved", left + width * 0.25, top + height / 2)
    browser.settle()
    assert now(browser) == pytest.approx(0.5, abs=0.004)
    before = (
        legend(browser, "links"),
        browser.value("document.querySelector('.network .label text:last-child').textContent"),
    )
    assert re.fullmatch(r"[\d.]+ Mb/s", before[0])
    drawn = re.match(r"→ ([\d.]+) Mb/s", before[1])
    assert drawn is not None
    assert float(drawn[1]) == pytest.approx(float(before[0].split()[0]), rel=0.01)
    browser.mouse("mouseMoved", left + width * 0.55, top + height / 2)  # wifi is down
    browser.settle()
    assert now(browser) == pytest.approx(1.1, abs=0.004)
    assert legend(browser, "links") == "0 b/s"
    assert browser.value("document.querySelectorAll('.network .down').length") == 1
    lines = browser.value(
        "[...document.querySelectorAll('figure.plot .u-cursor-x')].map(x => "
        "Math.round(x.getBoundingClientRect().left - x.parentNode.getBoundingClientRect().left))"
    )
    over_time = [line for line in lines if line > 0]
    assert len(set(over_time)) == 1  # in all of them at the same place


def test_a_click_pins_the_cursor(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    left, top, width, height = area(browser, "goodput")
    x, y = left + width / 2, top + height / 2
    browser.mouse("mouseMoved", x, y)
    browser.mouse("mousePressed", x, y, pressed=True)
    browser.mouse("mouseReleased", x, y)
    browser.mouse("mouseMoved", left + width / 4, y)
    browser.settle()
    assert now(browser) == pytest.approx(1.0, abs=0.004)
    browser.mouse("mousePressed", x, y, pressed=True)
    browser.mouse("mouseReleased", x, y)
    browser.mouse("mouseMoved", left + width / 4, y)
    browser.settle()
    assert now(browser) == pytest.approx(0.5, abs=0.004)


def ticks(browser: Browser, plot: str) -> list[float]:
    """Return the times that a plot's axis names, as its SVG has them."""
    browser.value(f"document.querySelector('[data-plot={plot}]').scrollIntoView()")
    browser.settle()
    browser.value("dispatchEvent(new Event('beforeprint'))")
    texts = browser.value(
        f"[...document.querySelectorAll('[data-plot={plot}] .vector text[text-anchor=middle]')]"
        ".map(x => x.textContent)"
    )
    browser.value("dispatchEvent(new Event('afterprint'))")
    return [float(text.removesuffix(" s")) for text in texts]


def test_a_drag_zooms_every_plot_and_a_double_click_shows_all(
    browser: Browser, run_page: Path
) -> None:
    browser.open(run_page)
    assert max(ticks(browser, "links")) == 2
    left, top, width, height = area(browser, "links")
    y = top + height / 2
    browser.drag((left + width * 0.4, y), (left + width * 0.6, y))
    for plot in ("links", "goodput", "throughput", "limits"):
        seen = ticks(browser, plot)
        assert min(seen) >= 0.75
        assert max(seen) <= 1.25
    area(browser, "links")
    browser.value(
        "document.querySelector('[data-plot=links] .u-over')"
        ".dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))"
    )
    browser.settle()
    assert max(ticks(browser, "goodput")) == 2


def test_everything_goes_with_the_keyboard_alone(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    browser.value("document.querySelector('.clock input').focus()")
    browser.press("Home")
    assert browser.value(NOW) == "t = 0.000 s"
    browser.press("End")
    assert browser.value(NOW) == "t = 2.000 s"
    browser.value("document.querySelector('[data-plot=links]').focus()")
    browser.press("Home")
    browser.press("+")
    browser.press("ArrowRight")
    browser.settle()
    assert 0 < now(browser) < 0.05
    assert max(ticks(browser, "goodput")) <= 1
    browser.value("document.querySelector('[data-plot=links]').focus()")
    browser.press("0")
    assert max(ticks(browser, "goodput")) == 2
    browser.value("document.querySelector('[data-plot=links] .legend button').focus()")
    pressed = "document.activeElement.getAttribute('aria-pressed')"
    assert browser.value(pressed) == "true"
    browser.press(" ")
    assert browser.value(pressed) == "false"
    nameless = browser.value(
        "[...document.querySelectorAll('button, input, select, figure, [role=img]')].filter(x => "
        "!(x.getAttribute('aria-label') || x.textContent.trim() || x.querySelector('title')))"
        ".length"
    )
    assert nameless == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(browser: Browser, run_page: Path, scheme: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: a contrast of 4.5 at least."""
    browser.prefer(scheme)
    browser.open(run_page)
    contrasts = browser.value(
        """
        (() => {
          const parse = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
          const light = text => {
            const [r, g, b] = parse(text).map(v => (v /= 255) <= .04045 ? v / 12.92
              : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
          };
          const ground = node => {
            for (; node; node = node.parentElement) {
              const colour = getComputedStyle(node).backgroundColor;
              if (!/, 0\\)$/.test(colour)) return colour;
            }
            return "rgb(255, 255, 255)";
          };
          return [...document.querySelectorAll("h1, h3, p, th, td, dt, dd, a, button, strong")]
            .filter(node => node.textContent.trim()).map(node => {
              const [a, b] = [getComputedStyle(node).color, ground(node)].map(light);
              return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            });
        })()
        """
    )
    assert len(contrasts) > 50
    assert min(contrasts) >= 4.5


def test_it_prints_with_vectors_whose_text_is_text(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    browser.value("dispatchEvent(new Event('beforeprint'))")
    svgs = browser.value(
        "[...document.querySelectorAll('.vector svg')].map(x => "
        "[x.querySelectorAll('text').length, x.querySelectorAll('path, rect, circle').length])"
    )
    assert len(svgs) == browser.value("document.querySelectorAll('figure.plot').length")
    assert all(texts > 4 and shapes > 1 for texts, shapes in svgs)
    browser.value("dispatchEvent(new Event('afterprint'))")
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert b"/Font" in pdf


def test_a_capture_s_connections_are_chosen_filtered_and_sorted(
    browser: Browser, tmp_path: Path
) -> None:
    path, output = tmp_path / "many.pcap", tmp_path / "many.html"
    path.write_bytes(capture(60))
    assert main(["page", str(path), "-o", str(output)]) == 0
    browser.open(output)
    rows = "[...document.querySelectorAll('.listing tbody tr')]"
    assert browser.value(f"{rows}.length") == 12
    browser.value(
        "(() => { const box = document.querySelector('input[type=search]');"
        "box.value = '10.0.0.41:'; box.dispatchEvent(new Event('input')); })()"
    )
    assert browser.value(f"{rows}.map(x => x.textContent.slice(0, 2))") == ["41"]
    browser.value(f"{rows}[0].querySelector('button').click()")
    browser.settle()
    chosen = browser.value(
        "document.querySelector('.chosen select').selectedOptions[0].textContent"
    )
    assert chosen.startswith("41: 10.0.0.41:2000 to 192.0.2.1:80")
    assert browser.value("document.querySelector('.network svg').textContent").count("10.0.0.41")
    assert build_all(browser) >= 5
    browser.value(
        "(() => { const box = document.querySelector('input[type=search]');"
        "box.value = ''; box.dispatchEvent(new Event('input'));"
        "document.querySelectorAll('.listing thead button')[0].click(); })()"
    )
    first = f"{rows}[0].querySelector('button').textContent"
    assert browser.value(first) == "0"
    browser.value("document.querySelectorAll('.listing thead button')[0].click()")
    assert browser.value(first) == "59"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_nothing(browser: Browser, tmp_path: Path, text: str) -> None:
    output = tmp_path / "page.html"
    assert main(["page", str(HANDOVER), "-o", str(output), "--title", text]) == 0
    browser.open(output)
    shown = text.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert browser.value("document.querySelector('h1').textContent") == f"capture {shown}"
    assert browser.value("document.querySelectorAll('h1 *').length") == 1


def test_the_policy_stops_what_is_not_the_page_s_own(browser: Browser, run_page: Path) -> None:
    text = run_page.read_text().replace(
        "<main>", "<main><script>document.title = 'bad'</script><p id=x onclick=1 style=color:red>"
    )
    changed = run_page.with_name("changed.html")
    changed.write_text(text)
    browser.open(changed)
    assert browser.value("document.title") != "bad"
    assert browser.value("getComputedStyle(document.getElementById('x')).color") != "rgb(255, 0, 0)"
    assert len(browser.complaints) >= 2
    assert all("Content Security Policy" in complaint for complaint in browser.complaints)
    browser.complaints.clear()


def test_five_thousand_connections_are_a_page_that_opens_at_once(
    browser: Browser, tmp_path: Path
) -> None:
    path, output = tmp_path / "many.pcap", tmp_path / "many.html"
    path.write_bytes(capture(5000, rounds=2))
    assert main(["page", str(path), "-o", str(output)]) == 0
    assert output.stat().st_size < 10e6
    begin = time.monotonic()
    for _ in range(3):  # a machine that others use as well takes its time
        begin = time.monotonic()
        browser.open(output)
        if time.monotonic() - begin < 2:
            break
    assert time.monotonic() - begin < 2
    assert browser.value("document.querySelector('.listing').parentNode.textContent").count("5000")
