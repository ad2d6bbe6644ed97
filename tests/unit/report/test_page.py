"""The page of a run: its policy, what hostile texts can do in it, and what is plotted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mptcplab.report.page import document
from mptcplab.report.page.columns import Rows, rate_bps
from mptcplab.report.page.comparison import comparison_part, run_folders
from mptcplab.report.page.document import ConnectionView, Event, Mark, Part, page
from mptcplab.report.page.markup import element, preformatted, table
from mptcplab.report.page.network import MOST_NODES, of_topology
from mptcplab.report.page.plots import Distribution, Plot, Series, Shares
from mptcplab.report.page.run import run_part
from mptcplab.results.run import Run, RunError

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!--<script>",
    "]]></style><svg onload=alert(1)>",
    "javascript:alert(1)",
    "\u202egnp.exe\x1b[31m",
    "${alert(1)}`",
)


class Seen(HTMLParser):
    """What a browser makes of a page: elements, attributes and the texts of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.blocks: list[tuple[str, dict[str, str | None], str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self.blocks.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem in ("script", "style"):
            tag, attributes, text = self.blocks[-1]
            self.blocks[-1] = (tag, attributes, text + data)
        else:
            self.text += data

    @property
    def data(self) -> list[Any]:
        return [json.loads(text) for _, attributes, text in self.blocks if "type" in attributes]


def with_texts(run: Run, text: str) -> Run:
    """Return the run with a text wherever one is free, and in the names that others choose."""
    metadata = json.loads((run.folder / "run.json").read_text())
    scenario = metadata["scenario"]
    scenario |= {"title": text, "question": text}
    for action in scenario["timeline"]:
        action["label"] = text
    for measured in scenario["report"]["measured"]:
        measured |= {"note": text, "source": text}
    for host in scenario["topology"]["hosts"]:
        host["interfaces"][0]["addresses"] = [text]
    scenario["topology"]["links"][0]["name"] = text
    metadata |= {"valid": False, "invalid_reasons": [text], "notes": [text], "testbed": text}
    metadata["drivers"] = {text: text}
    (run.folder / "run.json").write_text(json.dumps(metadata))
    return Run(run.folder)


def test_texts_become_text() -> None:
    assert element("p", "<b>", class_='"') == '<p class="&quot;">&lt;b&gt;</p>'
    assert element("p", "a\x1bb") == "<p>a\\x1bb</p>"
    assert element("meta", http_equiv="x", content=None) == '<meta http-equiv="x">'
    assert preformatted("a\n<b>") == "<pre>a\n&lt;b&gt;</pre>"
    assert '<th scope="row">&lt;i&gt;</th>' in table("t", ["x", "y"], [["<i>", "1"]])


def test_the_policy_allows_this_package_s_style_and_scripts_alone(run: Run) -> None:
    seen = Seen(page([run_part(run)], "x"))
    (policy,) = [
        value for _, name, value in seen.attributes if name == "content" and "src" in value
    ]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for _, attributes, text in seen.blocks
        if "type" not in attributes
    }
    assert len(hashes) == 3
    assert set(re.findall(r"'sha256-[^']+'", policy)) == hashes
    rest = re.sub(r"'sha256-[^']+'", "#", policy)
    assert rest == (
        "default-src 'none'; script-src # #; style-src #; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    assert seen.tags["meta"] == 5


def test_nothing_in_a_page_leads_out_of_it(run: Run) -> None:
    seen = Seen(page([run_part(run)], "x"))
    assert {value[:6] for _, name, value in seen.attributes if name == "href"} == {"#part-"}
    assert not [one for one in seen.attributes if one[1] in ("src", "style", "action", "data")]
    assert not [one for one in seen.attributes if one[1].startswith("on")]
    assert not seen.tags.keys() & {"link", "iframe", "object", "embed", "base", "form", "img"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_inert(run: Run, text: str) -> None:
    harmless = Seen(page([run_part(with_texts(run, "harmless"))], "harmless"))
    hostile = Seen(page([run_part(with_texts(run, text))], text))
    assert hostile.tags == harmless.tags
    assert [one[:2] for one in hostile.attributes] == [one[:2] for one in harmless.attributes]
    assert len(hostile.data) == len(harmless.data)
    shown = text.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert shown in hostile.text
    assert hostile.data[0]["drawing"]["edges"][0]["name"] == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_of_parts_are_inert_in_data(text: str) -> None:
    one = Series(text, np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    plot = Plot("k", text, "B", "line", [one], note=text)
    view = ConnectionView(text, [plot], [Event(0.0, text, text, text)], text=text, words=text)
    part = Part(
        text, "capture", [], [], (0.0, 1.0), plots=[plot], marks=[Mark(0.5, text)],
        events=[Event(0.0, text, text, text)], connections=[view], connection_count=1,
    )  # fmt: skip
    seen = Seen(page([part], text))
    assert seen.tags["script"] == 4
    assert seen.tags["img"] == seen.tags["svg"] == 0
    shown = text.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert seen.data[0]["marks"] == [[0.5, shown]]
    assert seen.data[1]["words"] == shown
    assert "\x1b" not in page([part], text)
    assert "\u202e" not in page([part], text)


def test_the_library_is_as_it_was_published() -> None:
    """uPlot 1.6.32 of the npm registry; its licence is in every page."""
    assets = Path(document.__file__).parent / "assets"
    digest = hashlib.sha256((assets / "uPlot.iife.min.js").read_bytes()).hexdigest()
    assert digest == "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
    licence = (assets / "uPlot.LICENSE").read_text()
    assert "Permission is hereby granted" in licence
    assert licence.splitlines()[0] in Seen(page([Part("x", "run", [], [])], "x")).text


@pytest.mark.parametrize("value", [None, 7, "text", [7], [{}], {"a": {}}])
@pytest.mark.parametrize(
    "place",
    [
        ("scenario", "topology", "hosts"),
        ("scenario", "topology", "switches"),
        ("scenario", "question"),
        ("versions",),
        ("build",),
        ("path_manager",),
    ],
)
def test_what_is_not_checked_of_a_run_may_be_anything(
    run: Run, place: tuple[str, ...], value: Any
) -> None:
    metadata = json.loads((run.folder / "run.json").read_text())
    *outer, last = place
    holder = metadata
    for key in outer:
        holder = holder[key]
    holder[last] = value
    (run.folder / "run.json").write_text(json.dumps(metadata))
    assert Seen(page([run_part(Run(run.folder))], "x")).tags["article"] == 1


def test_question_and_validity_come_first(run: Run) -> None:
    text = page([run_part(run)], "x")
    places = [
        text.index(what)
        for what in ("do both carry?", "Valid", "<caption>Flows", "drawn", "The scenario as it was")
    ]
    assert places == sorted(places)


def test_a_run_s_links_are_drawn_with_what_they_carry(run: Run) -> None:
    part = run_part(run)
    assert part.drawing is not None
    edges = part.drawing.edges
    assert [edge.name for edge in edges] == ["one", "two"]
    links = next(plot for plot in part.plots if isinstance(plot, Plot) and plot.key == "links")
    for edge in edges:
        key, number = edge.rates["forward"]
        assert (key, links.series[number].name) == ("links", f"{edge.name} →")
    second = links.series[edges[1].rates["forward"][1]]
    assert second.value.tolist() == [8e6] * 4 + [0.0] * 3 + [8e6] * 3
    assert [mark.time_s for mark in part.marks] == [4.0, 6.0]
    assert links.series[2].is_hidden  # the quieter direction


def test_a_page_has_no_more_connections_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mptcplab.report.page.document.PLOT_BYTES", 50_000)
    made = 0

    def views() -> Any:
        nonlocal made
        for number in range(1000):
            made += 1
            time_s = np.arange(1000) / 7
            series = Series("s", time_s, np.sin(time_s))
            yield ConnectionView(str(number), [Plot("p", "p", "B", "line", [series])])

    part = Part("x", "capture", [], [], (0.0, 1.0), connections=views(), connection_count=1000)
    seen = Seen(page([part], "x"))
    shown = len(seen.data[0]["connections"])
    assert 1 <= shown < 20
    assert made == shown  # the others are not even made
    assert seen.data[0]["left_out"] == 1000 - shown


# -- what is plotted


def decoded(steps: list[int]) -> list[float]:
    return [float(total) / 1e6 for total in accumulate(steps)]


def test_rates_are_thinned_to_means_that_carry_the_same() -> None:
    time_s = np.arange(1.0, 1001.0) * 0.1
    value = np.where(np.arange(1000) % 10 == 0, 50.0, 0.0)
    plot = Plot("k", "t", "bit/s", "rate", [Series("s", time_s, value, interval_s=0.1)])
    (series,) = plot.to_json(100)["series"]
    t, y = np.array(decoded(series["t"])), np.array(series["y"])
    assert len(t) == 101
    assert t[0] == pytest.approx(0.0)
    assert float((np.diff(t) * y[1:]).sum()) == pytest.approx(500.0)
    assert (series["mean"], series["most"]) == (5, 50)
    assert "means of 100 stretches" in plot.to_json(100)["note"]


def test_samples_are_thinned_to_their_extremes() -> None:
    time_s = np.arange(100_000) / 1e3
    value = np.ones(100_000)
    value[77_777], value[33_333] = 9.0, -5.0
    plot = Plot("k", "t", "B", "line", [Series("s", time_s, value)])
    (series,) = plot.to_json(1000)["series"]
    assert len(series["y"]) <= 1002
    points = dict(zip(decoded(series["t"]), series["y"], strict=True))
    assert points[77.777] == 9
    assert points[33.333] == -5


def test_what_is_not_known_stays_unknown() -> None:
    value = np.array([1.0, np.nan, 3.0])
    (series,) = Plot("k", "t", "s", "line", [Series("s", np.arange(3.0), value)]).to_json()[
        "series"
    ]
    assert series["y"] == [1, None, 3]
    assert series["mean"] == 2


def test_shares_are_joined_without_losing_time() -> None:
    intervals = [
        (k * 0.01, k * 0.01 + 0.01, {"link" if k % 4 else "cpu": 1.0}) for k in range(4000)
    ]
    shown = Shares("k", "t", intervals).to_json()
    assert shown["names"] == ["link", "cpu"]
    assert shown["of_all"] == [0.75, 0.25]
    assert len(shown["shares"]) <= 600
    length = np.array(decoded(shown["end"])) - np.array(decoded(shown["start"]))
    cpu = [dict(zip(one[::2], one[1::2], strict=True)).get(1, 0.0) for one in shown["shares"]]
    assert float((length * np.array(cpu)).sum()) == pytest.approx(10.0, rel=0.01)


def test_a_logarithmic_axis_has_no_zero() -> None:
    series = Series("s", np.arange(3.0), np.array([0.0, 1.0, -1.0]))
    (one,) = Plot("k", "t", "s", "points", [series], is_logarithmic=True).to_json()["series"]
    assert one["y"] == [None, 1, None]
    (curve,) = Distribution("k", "t", [("c", np.array([0.0, 2.0]), 2)]).to_json()["series"]
    assert curve["x"] == [1e-9, 2]


def test_a_distribution_counts_what_never_ended() -> None:
    curve = ("requests", np.array([0.1, 0.2, 0.3]), 4)
    (series,) = Distribution("k", "t", [curve]).to_json()["series"]
    assert series["y"] == [0.25, 0.5, 0.75]
    assert series["p50"] == pytest.approx(0.25)
    assert series["p99"] is None


def test_rows_are_grouped_and_in_order_of_time() -> None:
    rows = Rows(
        pa.table(
            {
                "time_ns": [3, 1, 2, 4],
                "flow": ["b", "a", "b", None],
                "subflow": pa.array([0, 0, 0, None], pa.int32()),
                "bytes": [30, 10, None, 5],
            }
        ),
        ("flow", "subflow"),
    )
    assert rows.keys() == [("b", 0), ("a", 0), (None, None)]
    assert rows.time_s(("b", 0)).tolist() == [2e-9, 3e-9]
    column = rows.column(("b", 0), "bytes")
    assert np.isnan(column[0])
    assert column[1] == 30
    assert rows.column(("c", 0), "bytes").size == 0


def test_a_counter_s_rate() -> None:
    rate = rate_bps(np.array([1.0, 2.0, 2.0, 4.0]), np.array([10.0, 30.0, 30.0, 20.0]))
    assert rate[:2].tolist() == [80.0, 160.0]
    assert np.isnan(rate[2])  # no time has passed
    assert rate[3] == 0.0  # a counter that began again


# -- the drawing


def star(hosts: int) -> dict[str, Any]:
    return {
        "hosts": [
            {"name": f"h{k}", "interfaces": [{"name": "e", "addresses": [f"10.0.0.{k}/8"]}]}
            for k in range(hosts)
        ],
        "switches": [{"name": "s", "ports": []}],
        "links": [{"name": f"l{k}", "a": f"h{k}:e", "b": "s"} for k in range(hosts)],
    }


def test_nodes_stand_in_columns_and_nowhere_on_top_of_each_other() -> None:
    drawing = of_topology(star(9), ["h0", "h1", "h2"], "t")
    assert drawing is not None
    columns = [node.column for node in drawing.nodes]
    assert columns == [0, 0, 0, *[2] * 6, 1]
    boxes = [(node.x, node.y, node.width, node.height) for node in drawing.nodes]
    for place, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[place + 1 :]:
            apart = x + width < other_x or other_x + other_width < x
            assert apart or y + height < other_y or other_y + other_height < y
    switch = drawing.nodes[-1]
    assert [side for side, _ in switch.places] == [-1] * 3 + [1] * 6
    for node in drawing.nodes:
        assert all(node.y < y < node.y + node.height for _, y in node.places)


def test_a_cable_and_a_link_past_a_switch() -> None:
    topology = star(2)
    topology["switches"][0]["ports"] = ["h1:eth9"]
    topology["links"] = [
        {"name": "over", "a": "h0:e", "b": "s"},
        {"name": "past", "a": "h0:f", "b": "h1:f"},
    ]
    drawing = of_topology(topology, ["h0"], "t")
    assert drawing is not None
    assert [edge.name for edge in drawing.edges] == ["over", "past", ""]
    assert [node.column for node in drawing.nodes] == [0, 2, 1]
    ((low, high, y),) = drawing.edges[1].via
    switch = drawing.nodes[2]
    assert (low, high) == (switch.x, switch.x + switch.width)
    assert not switch.y <= y <= switch.y + switch.height


def test_a_network_that_nobody_could_see_is_not_drawn() -> None:
    assert of_topology(star(MOST_NODES), ["h0"], "t") is None


# -- comparisons


def comparison(folder: Path, **changes: Any) -> Path:
    """Write a comparison of two variants, without its runs."""
    quantity = {
        "name": "goodput of main",
        "unit": "bit/s",
        "values": [1e6, 1.2e6],
        "value": {"mean": 1.1e6, "margin": 1e5, "count": 2},
        "difference": None,
        "corrected_p_value": None,
        "outcome": "not judged",
    }
    better = quantity | {
        "value": {"mean": 2.2e6, "margin": None, "count": 2},
        "difference": {"mean": 1.1e6, "margin": 2e5, "p_value": 0.0001, "method": "Welch"},
        "corrected_p_value": 0.0001,
        "outcome": "better",
    }
    variants = [
        {
            "label": label,
            "set": [],
            "valid": True,
            "valid_runs": 2,
            "invalid_reasons": [],
            "runs": [f"elsewhere/{label}/1", f"elsewhere/{label}/2"],
            "limits": [],
            "quantities": [one],
        }
        for label, one in (("as it is", quantity), ("other", better))
    ]
    whole = {
        "scenario": "tiny",
        "testbed": "simulated",
        "repetitions": 2,
        "seeds": [1, 2],
        "settle_s": 1.0,
        "judged_together": 1,
        "variants": variants,
    }
    folder.mkdir(exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(whole | changes))
    return folder


def test_a_comparison_shows_intervals_and_what_was_judged(tmp_path: Path) -> None:
    text = page([comparison_part(comparison(tmp_path / "c"))], "x")
    seen = Seen(text)
    for what in ("1.1 ± 0.1 Mb/s", "+100.0 ± 18.2 %", "better", "<0.001", "2 runs of each"):
        assert what in seen.text
    assert seen.tags["circle"] == 2
    assert "goodput of main, mean and 95 % interval: as it is: 1.1 Mb/s; other: 2.2" in seen.text


def test_the_runs_of_a_comparison_are_found_where_it_lies_now(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "moved")
    variant = json.loads((folder / "comparison.json").read_text())["variants"][0]
    assert run_folders(folder, variant) == [folder / "as it is" / "1", folder / "as it is" / "2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": []}, "it has no variant"),
        ({"repetitions": "many"}, "repetitions is not a whole number"),
        ({"variants": [{"label": "x"}]}, "it has no variants.0.valid"),
        ({"seeds": None}, "seeds is no list"),
    ],
)
def test_a_damaged_comparison_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunError, match=re.escape(said)):
        comparison_part(comparison(tmp_path / "c", **changes))
