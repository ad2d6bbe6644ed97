"use strict";
/* Draws what the page's blocks of data hold: the network, the plots, events and lists.  All texts
   become text nodes or attributes, never markup.  One clock a part: plots, drawing and lists show
   the same time, and zoom together. */
(() => {
const SVG = "http://www.w3.org/2000/svg";
const CAUSES = {
  "application": "#7f8c99", "congestion-window": "#0072b2", "link": "#009e73",
  "receive-window": "#d55e00", "head-of-line": "#cc79a7", "send-buffer": "#e69f00",
  "scheduler": "#8f7ae0", "cpu": "#a0522d", "handshake": "#c8b900", "stalled": "#d00000",
  "unknown": "#b8bec5",
};
const HEIGHT = 230;

// -- small parts of a document

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function draw(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function button(text, action, attributes = {}) {
  const node = make("button", {type: "button", ...attributes}, text);
  node.addEventListener("click", action);
  return node;
}

function clipped(text, most) {
  return text.length <= most ? text : text.slice(0, most - 9) + "…" + text.slice(-8);
}

// -- quantities

function digits(value, count) {
  return String(Number(value.toPrecision(count)));
}

function quantity(value, unit, count = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return unit === "" ? "0" : "0 " + named("", unit);
  const size = Math.abs(value);
  if (unit === "s") {
    for (const [scale, name] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) {
      if (size >= scale * .9999995) return digits(value / scale, count) + " " + name;
    }
    return digits(value / 1e-9, count) + " ns";
  }
  if (unit === "") return size < 1e6 ? digits(value, count) : value.toExponential(2);
  value = Number(value.toPrecision(count));
  for (const [scale, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= scale) return digits(value / scale, count) + " " + named(name, unit);
  }
  return digits(value, count) + " " + named("", unit);
}

function named(prefix, unit) {
  return prefix + (unit === "bit/s" ? "b/s" : unit);
}

function seconds(value, span) {
  const places = span > 100 ? 1 : span > 5 ? 2 : span > .5 ? 3 : span > .005 ? 5 : 6;
  return value.toFixed(places) + " s";
}

function ticks(low, high, count, isLogarithmic) {
  const out = [];
  if (isLogarithmic) {
    for (let at = 10 ** Math.floor(Math.log10(low)); at <= high * 1.0001; at *= 10) {
      for (const part of high / low > 1000 ? [1] : [1, 2, 5]) {
        if (at * part >= low * .9999 && at * part <= high * 1.0001) out.push(at * part);
      }
    }
    return out;
  }
  const power = 10 ** Math.floor(Math.log10((high - low) / count));
  const step = [1, 2, 2.5, 5, 10].map(size => size * power).find(size => (high - low) / size <= count);
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(k * step);
  return out;
}

// -- data as the page holds it

function times(steps) {
  const out = new Array(steps.length);
  let at = 0;
  for (let i = 0; i < steps.length; i++) out[i] = (at += steps[i]) / 1e6;
  return out;
}

function firstAt(values, limit) {  // the first place whose value is not below the limit
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < limit) low = middle + 1; else high = middle;
  }
  return low;
}

function valueAt(series, style, time) {
  const at = series.x;
  if (!at.length || time < at[0] || time > at[at.length - 1]) return null;
  let place = firstAt(at, time);
  if (style !== "rate" && at[place] !== time) place--;
  return series.y[place];
}

function read(plot) {
  if (plot.style === "shares") {
    plot.start = times(plot.start);
    plot.end = times(plot.end);
  } else {
    for (const one of plot.series) {
      if (one.t) one.x = times(one.t);
      delete one.t;
    }
  }
  return plot;
}

// -- colours

function colour(number) {
  return getComputedStyle(document.documentElement).getPropertyValue("--c" + number % 8).trim();
}

function shade(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function causeColour(name, number) {
  return CAUSES[name] || colour(number);
}

// -- one plot

class Chart {
  constructor(part, plot) {
    this.part = part;
    this.plot = plot;
    this.isOverTime = plot.style !== "distribution";
    this.shown = plot.style === "shares" ? [] : plot.series.map(one => !one.hidden);
    this.canvas = make("div", {class: "canvas"});
    this.vector = make("div", {class: "vector"});
    this.canvas.append(this.vector);
    this.legend = make("div", {class: "legend"});
    this.legend.tabIndex = 0;
    this.legend.setAttribute("role", "group");
    this.legend.setAttribute("aria-label", "Values: " + plot.title);
    this.figure = make("figure", {class: "plot", tabindex: "0", "data-plot": plot.key},
      make("figcaption", {}, plot.title,
        button("Save SVG", () => this.save(), {"aria-label": "Save as SVG: " + plot.title})),
      make("div", {class: "body"}, this.canvas, this.legend),
      make("p", {class: "note"}, plot.note));
    this.figure.setAttribute("role", "group");
    this.figure.setAttribute("aria-label", plot.title + this.summary() +
      (this.isOverTime ? ". Keys: arrows move the time, plus and minus zoom, 0 shows all." : ""));
    if (this.isOverTime) this.figure.addEventListener("keydown", event => part.key(event));
    this.fillLegend();
    this.chart = null;
  }

  summary() {
    if (this.plot.style === "shares") {
      return ": " + this.plot.names
        .map((name, i) => name + " " + (100 * this.plot.of_all[i]).toFixed(1) + " %").join(", ");
    }
    const shown = this.plot.series.filter((one, i) => this.shown[i]).slice(0, 6);
    return ": " + shown.map(one => one.name + (one.most === undefined ? ""
      : " up to " + quantity(one.most, this.plot.unit))).join(", ");
  }

  // The legend is a table, which a screen reader reads: name, value at the cursor, mean, highest.
  fillLegend() {
    const body = make("tbody");
    this.cells = [];
    this.swatches = [];
    const plot = this.plot;
    const rows = plot.style === "shares" ? plot.names.map(name => ({name})) : plot.series;
    rows.forEach((one, i) => {
      const swatch = draw("line", {x1: 0, x2: 16, y1: 5, y2: 5, "stroke-width": 4,
        "stroke-dasharray": one.dashed ? "4 2" : null});
      this.swatches.push(swatch);
      const icon = draw("svg", {width: 16, height: 10, "aria-hidden": "true"}, swatch);
      const head = make("th", {scope: "row"});
      if (plot.style === "shares") {
        head.append(icon, one.name);
      } else {
        const toggle = button("", () => this.toggle(i, toggle), {"aria-pressed": this.shown[i]});
        toggle.append(icon, one.name);
        head.append(toggle);
      }
      const now = make("td", {class: "number"});
      this.cells.push(now);
      const row = make("tr", {}, head, now);
      if (plot.style === "shares") {
        row.append(make("td", {class: "number"}, (100 * plot.of_all[i]).toFixed(1) + " %"));
      } else if (this.isOverTime) {
        row.append(make("td", {class: "number"}, quantity(one.mean, plot.unit, 3)),
          make("td", {class: "number"}, quantity(one.most, plot.unit, 3)));
      } else {
        row.append(...[one.p50, one.p95, one.p99].map(
          value => make("td", {class: "number"}, quantity(value, "s", 3))));
      }
      body.append(row);
    });
    const heads = plot.style === "shares" ? ["", "now", "of all"]
      : this.isOverTime ? ["", "now", "mean", "highest"] : ["", "cursor", "p50", "p95", "p99"];
    this.legend.append(make("table", {}, make("thead", {}, make("tr", {},
      ...heads.map((text, i) => make("th", {scope: "col", class: i ? "number" : null}, text)))), body));
  }

  toggle(i, node) {
    this.shown[i] = !this.shown[i];
    node.setAttribute("aria-pressed", this.shown[i]);
    if (this.chart) this.chart.setSeries(i + 1, {show: this.shown[i]});
  }

  data() {
    const plot = this.plot;
    if (plot.style === "shares") {
      return [plot.start.length ? [plot.start[0], plot.end[plot.end.length - 1]] : [0, 1], [0, 1]];
    }
    const tables = plot.series.map(one => [one.x, one.y]);
    return tables.length === 1 ? tables[0] : uPlot.join(tables, tables.map(() => [1]));
  }

  build() {
    if (this.chart) return;
    const plot = this.plot, paths = uPlot.paths;
    const text = "12px system-ui, sans-serif";
    const axis = {
      font: text, stroke: () => shade("muted"), grid: {stroke: () => shade("grid"), width: 1},
      ticks: {stroke: () => shade("line"), width: 1, size: 5},
    };
    const style = (one, i) => ({
      label: one.name, show: this.shown[i], stroke: () => colour(one.colour), width: this.width(i),
      dash: one.dashed ? [6, 4] : null, spanGaps: false,
      paths: plot.style === "points" ? () => null
        : plot.style === "rate" ? paths.stepped({align: -1})
        : plot.style === "held" ? paths.stepped({align: 1})
        : plot.style === "distribution" ? paths.stepped({align: 1}) : paths.linear(),
      points: plot.style === "points"
        ? {show: true, space: 0, size: 3.5, width: 0, fill: () => colour(one.colour)} : {show: false},
    });
    const top = value => value > 0 ? value * 1.06 : 1;
    const isLog = plot.log;
    const options = {
      width: Math.max(this.canvas.clientWidth, 200), height: this.height(),
      legend: {show: false},
      padding: [8, 12, 0, 0],
      cursor: {
        x: true, y: false, drag: {x: true, y: false, setScale: false},
        points: {show: plot.style !== "shares", size: 7},
        bind: {
          mousemove: (u, target, handle) => event => {  // where it is pinned, for a drag alone
            if (!this.isOverTime || !this.part.isPinned || event.buttons) handle(event);
          },
          mouseleave: () => () => null,
          dblclick: () => () => { this.isOverTime ? this.part.zoom(...this.part.full) : this.reset(); },
        },
      },
      scales: {
        x: this.isOverTime ? {time: false} : {time: false, distr: 3},
        y: plot.style === "shares" || plot.style === "distribution" ? {range: () => [0, 1]}
          : isLog ? {distr: 3} : {range: (u, low, high) => [0, top(high)]},
      },
      axes: [
        {...axis, size: 34, values: (u, at) => at.map(value => value === null ? "" : this.named(value, 0))},
        {...axis, size: 82, values: (u, at) => at.map(value => value === null ? "" : this.named(value, 1))},
      ],
      series: [{}, ...(plot.style === "shares" ? [{show: true, paths: () => null, points: {show: false}}]
        : plot.series.map(style))],
      hooks: {
        setSelect: [u => this.selected(u)],
        draw: [u => this.over(u)],
        drawAxes: [u => { if (plot.style === "shares") this.strip(u); }],
      },
    };
    this.chart = new uPlot(options, this.data(), this.canvas);
    this.chart.root.setAttribute("aria-hidden", "true");
    const over = this.chart.over;
    over.addEventListener("click", () => this.clicked());
    over.addEventListener("mousemove", event =>
      this.moved(this.chart.posToVal(event.clientX - over.getBoundingClientRect().left, "x")));
    this.colours();
    if (this.isOverTime) {
      this.zoomed();
      this.show(this.part.time);
    }
    new ResizeObserver(() => {
      const width = this.canvas.clientWidth;
      if (width > 100 && Math.abs(width - this.chart.width) > 2) {
        this.chart.setSize({width, height: this.chart.height});
      }
    }).observe(this.canvas);
  }

  width(i) {  // curves that run level stay visible
    const rest = this.plot.series.length - 1 - i;
    return this.plot.style === "rate" ? 1.5 + Math.min(.9 * rest, 1.8) : 1.5;
  }

  moved(at) {
    if (this.isOverTime) {
      if (!this.part.isPinned) this.part.goto(at);
      return;
    }
    this.plot.series.forEach((one, i) => {
      const place = firstAt(one.x, at * (1 + 1e-9)) - 1;
      this.cells[i].textContent = place < 0 ? "0 %" : (100 * one.y[place]).toFixed(1) + " %";
    });
  }

  clicked() {
    if (this.isOverTime && !this.wasDragged) this.part.setPinned(!this.part.isPinned);
    this.wasDragged = false;
  }

  selected(u) {
    const {left, width} = u.select;
    if (width < 3) return;
    const low = u.posToVal(left, "x"), high = u.posToVal(left + width, "x");
    u.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
    this.wasDragged = true;
    if (this.isOverTime) this.part.zoom(low, high);
    else u.setScale("x", {min: low, max: high});
  }

  reset() {
    const [min, max] = this.reach();
    this.chart.setScale("x", {min, max});
  }

  zoomed() {
    const [min, max] = this.part.view;
    if (this.chart) this.chart.setScale("x", {min, max});
    if (this.chart) this.show(this.part.time);
  }

  show(time) {
    const plot = this.plot;
    if (plot.style === "shares") {
      const now = new Map();
      const place = firstAt(plot.end, time);
      if (place < plot.end.length && plot.start[place] <= time) {
        const shares = plot.shares[place];
        for (let k = 0; k < shares.length; k += 2) now.set(shares[k], shares[k + 1]);
      }
      this.cells.forEach((cell, i) => {
        cell.textContent = now.has(i) ? (100 * now.get(i)).toFixed(0) + " %" : "–";
      });
    } else {
      plot.series.forEach((one, i) => {
        this.cells[i].textContent = quantity(valueAt(one, plot.style, time), plot.unit);
      });
    }
    if (this.chart) this.chart.setCursor({left: this.chart.valToPos(time, "x"), top: 0}, false);
  }

  strip(u) {  // the shares of each interval, one above the other
    const {ctx, bbox} = u, plot = this.plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    this.rectangles((left, right, low, high, fill) => {
      const x = u.valToPos(left, "x", true), w = u.valToPos(right, "x", true) - x;
      const y = u.valToPos(high, "y", true), h = u.valToPos(low, "y", true) - y;
      ctx.fillStyle = fill;
      ctx.fillRect(Math.floor(x), y, Math.max(Math.ceil(x + w) - Math.floor(x), 1), h);
    });
    ctx.restore();
  }

  rectangles(paint) {
    const plot = this.plot, [min, max] = this.part.view;
    const colours = plot.names.map(causeColour);
    for (let i = 0; i < plot.start.length; i++) {
      if (plot.end[i] < min || plot.start[i] > max) continue;
      let low = 0;
      const shares = plot.shares[i];
      for (let k = 0; k < shares.length; k += 2) {
        paint(plot.start[i], plot.end[i], low, low + shares[k + 1], colours[shares[k]]);
        low += shares[k + 1];
      }
    }
  }

  over(u) {  // what the timeline did
    if (!this.isOverTime) return;
    const {ctx, bbox} = u;
    ctx.save();
    ctx.strokeStyle = shade("muted");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.font = `${9 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.fillStyle = shade("muted");
    ctx.textAlign = "right";
    for (const [at, text] of this.part.data.marks) {
      if (at < this.part.view[0] || at > this.part.view[1]) continue;
      const x = u.valToPos(at, "x", true);
      ctx.save();
      ctx.translate(x - 3 * devicePixelRatio, bbox.top + 2 * devicePixelRatio);
      ctx.rotate(-Math.PI / 2);
      ctx.fillText(clipped(text, 36), 0, 0);
      ctx.restore();
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  colours() {
    this.swatches.forEach((swatch, i) => swatch.setAttribute("stroke", this.plot.style === "shares"
      ? causeColour(this.plot.names[i], i) : colour(this.plot.series[i].colour)));
    if (this.chart) this.chart.redraw(false, true);
  }

  height() {
    return this.plot.style === "shares" ? 110 : HEIGHT;
  }

  named(value, axis) {  // a number of an axis: 0 is that below, 1 that on the left
    if (axis === 0) return this.isOverTime ? digits(value, 7) + " s" : quantity(value, "s", 3);
    return this.plot.style === "shares" || this.plot.style === "distribution"
      ? Math.round(100 * value) + " %" : quantity(value, this.plot.unit, 4);
  }

  reach() {  // what the axis below covers
    if (this.isOverTime) return this.part.view;
    const all = this.plot.series.flatMap(one => one.x).filter(value => value > 0);
    const low = Math.min(...all), high = Math.max(...all);
    return low < high ? [low, high] : [low / 2 || 1e-3, high * 2 || 1];
  }

  range(from, to) {  // what the axis on the left covers, of what is shown
    if (this.plot.style === "shares" || this.plot.style === "distribution") return [0, 1];
    let low = Infinity, high = 0;
    this.plot.series.forEach((one, i) => {
      if (!this.shown[i]) return;
      for (let k = Math.max(0, firstAt(one.x, from) - 1); k < one.x.length && one.x[k] <= to; k++) {
        const value = one.y[k];
        if (value === null) continue;
        high = Math.max(high, value);
        if (value > 0) low = Math.min(low, value);
      }
    });
    if (!this.plot.log) return [0, high > 0 ? high * 1.06 : 1];
    if (!(low < Infinity)) return [1e-3, 1];
    return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.0001))];
  }

  // The same plot as vectors, its text as text.
  svg() {
    const plot = this.plot;
    const width = Math.max(this.canvas.clientWidth, 600), tall = this.height();
    const left = 82, right = width - 12, head = 22, bottom = tall - 34 + head;
    const legendRows = plot.style === "shares" ? plot.names.map((name, i) => [name, causeColour(name, i)])
      : plot.series.map((one, i) => [one.name, colour(one.colour), this.shown[i], one.dashed])
        .filter(row => row[2]);
    const height = tall + head + 16 * legendRows.length + 8;
    const logX = !this.isOverTime, logY = Boolean(plot.log);
    const [x0, x1] = this.reach(), [y0, y1] = this.range(x0, x1);
    const place = (value, low, high, log) => log
      ? (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low)) : (value - low) / (high - low);
    const X = value => left + (right - left) * place(value, x0, x1, logX);
    const Y = value => bottom - (bottom - head - 8) * place(value, y0, y1, logY);
    const f = value => value.toFixed(2);
    const root = draw("svg", {xmlns: SVG, viewBox: `0 0 ${width} ${height}`, width, height,
      "font-family": "system-ui, sans-serif", "font-size": 12, fill: shade("ink")});
    root.append(draw("title", {}, plot.title), draw("rect", {width, height, fill: shade("paper")}),
      draw("text", {x: left, y: 14, "font-weight": 600}, plot.title));
    const clip = "clip-" + Math.random().toString(36).slice(2);
    root.append(draw("defs", {}, draw("clipPath", {id: clip},
      draw("rect", {x: left, y: head, width: right - left, height: bottom - head}))));
    for (const value of ticks(x0, x1, 10, logX)) {
      const x = f(X(value));
      root.append(draw("line", {x1: x, x2: x, y1: head + 8, y2: bottom, stroke: shade("grid")}),
        draw("text", {x, y: bottom + 18, "text-anchor": "middle", fill: shade("muted")}, this.named(value, 0)));
    }
    for (const value of ticks(y0, y1, plot.style === "shares" ? 2 : 5, logY)) {
      root.append(draw("line", {x1: left, x2: right, y1: f(Y(value)), y2: f(Y(value)), stroke: shade("grid")}),
        draw("text", {x: left - 8, y: f(Y(value) + 4), "text-anchor": "end", fill: shade("muted")}, this.named(value, 1)));
    }
    const inside = draw("g", {"clip-path": `url(#${clip})`});
    root.append(inside);
    if (plot.style === "shares") {
      this.rectangles((from, to, low, high, fill) => inside.append(draw("rect", {
        x: f(X(from)), y: f(Y(high)), width: f(Math.max(X(to) - X(from), .3)), height: f(Y(low) - Y(high)), fill})));
    } else {
      plot.series.forEach((one, i) => { if (this.shown[i]) inside.append(...this.curve(one, X, Y, [x0, x1], f)); });
    }
    if (this.isOverTime) {
      for (const [at, text] of this.part.data.marks) {
        if (at < x0 || at > x1) continue;
        inside.append(draw("line", {x1: f(X(at)), x2: f(X(at)), y1: head, y2: bottom, stroke: shade("muted"), "stroke-dasharray": "2 3"}),
          draw("text", {transform: `translate(${f(X(at) - 3)} ${head + 10}) rotate(-90)`, "text-anchor": "end", "font-size": 9, fill: shade("muted")}, clipped(text, 40)));
      }
    }
    legendRows.forEach(([name, stroke,, dashed], i) => {
      const y = tall + head + 6 + 16 * i;
      root.append(draw("line", {x1: left, x2: left + 18, y1: y - 4, y2: y - 4, stroke, "stroke-width": 4, "stroke-dasharray": dashed ? "4 2" : null}),
        draw("text", {x: left + 26, y}, name));
    });
    return root;
  }

  curve(one, X, Y, [x0, x1], f) {
    const out = [], style = this.plot.style, stroke = colour(one.colour);
    let path = "", before = null;
    const from = Math.max(0, firstAt(one.x, x0) - 1), to = Math.min(one.x.length, firstAt(one.x, x1) + 2);
    for (let i = from; i < to; i++) {
      const value = one.y[i];
      if (value === null || (this.plot.log && value <= 0)) { before = null; continue; }
      const x = X(one.x[i]), y = Y(value);
      if (style === "points") {
        out.push(draw("circle", {cx: f(x), cy: f(y), r: 1.4, fill: stroke}));
      } else if (before === null) {
        path += `M${f(x)} ${f(y)}`;
      } else if (style === "rate") {
        path += `V${f(y)}H${f(x)}`;
      } else if (style === "distribution" || style === "held") {
        path += `H${f(x)}V${f(y)}`;
      } else {
        path += `L${f(x)} ${f(y)}`;
      }
      before = y;
    }
    if (path) {
      out.push(draw("path", {d: path, fill: "none", stroke, "stroke-width": 1.5,
        "stroke-dasharray": one.dashed ? "6 4" : null}));
    }
    return out;
  }

  save() {
    const text = new XMLSerializer().serializeToString(this.svg());
    const link = make("a", {download: this.plot.key + ".svg",
      href: URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}))});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  forPrint() {
    this.vector.replaceChildren(this.svg());
  }
}

// -- the network

class Network {
  constructor(part, drawing) {
    this.part = part;
    this.drawing = drawing;
    this.node = make("div", {class: "network"});
    const via = drawing.edges.flatMap(edge => edge.via);
    const isBent = drawing.edges.some(({ends: [[a], [b]]}) => drawing.nodes[a].at[0] === drawing.nodes[b].at[0]);
    const right = Math.max(...drawing.nodes.map(node => node.at[0] + node.at[2]), 1) + (isBent ? 140 : 0);
    const bottom = Math.max(...drawing.nodes.map(node => node.at[1] + node.at[3]),
      ...via.map(([, , y]) => y + 20), 1);
    const svg = draw("svg", {viewBox: `-10 -10 ${right + 20} ${bottom + 20}`, role: "img",
      "aria-label": drawing.title + ": " + drawing.edges.filter(edge => edge.name)
        .map(edge => `${edge.name} from ${drawing.nodes[edge.ends[0][0]].name} to ${drawing.nodes[edge.ends[1][0]].name}`)
        .slice(0, 60).join(", ")});
    svg.style.maxWidth = Math.max(right + 20, 560) * 1.25 + "px";
    this.edges = drawing.edges.map((edge, i) => this.edge(edge, i, svg));
    for (const node of drawing.nodes) this.box(node, svg);
    for (const {label} of this.edges) svg.append(label);
    this.node.append(svg);
  }

  port([node, port]) {
    const {at, ports} = this.drawing.nodes[node], [,, side, y] = ports[port];
    return [side < 0 ? at[0] : at[0] + at[2], y, side];
  }

  edge(edge, number, svg) {
    const [ax, ay, a] = this.port(edge.ends[0]);
    const [bx, by, b] = this.port(edge.ends[1]);
    const reach = Math.max(Math.abs(bx - ax) / (1 + edge.via.length) * .4, 50);
    let line = `M${ax} ${ay}`, from = [ax, ay];
    const stops = edge.via.map(([low, high, y]) => bx > ax ? [low, high, y] : [high, low, y]);
    for (const [near, far, y] of [...stops, [bx, null, by]]) {
      const back = far === null ? b * reach : bx > ax ? -reach : reach;
      line += `C${from[0] + a * reach} ${from[1]} ${near + back} ${y} ${near} ${y}`;
      if (far !== null) line += `H${far}`;
      from = [far, y];
    }
    const path = draw("path", {class: edge.name ? "edge" : "edge cable", "stroke-width": 2, d: line});
    path.append(draw("title", {}, [edge.name, edge.text].filter(Boolean).join(": ")));
    svg.append(path);
    const label = draw("g", {class: "label"});
    const out = {edge, path, label, number, rate: null};
    if (!edge.name || this.drawing.edges.length > 40) return out;
    const [nextX, nextY] = stops.length ? [stops[0][0], stops[0][2]] : [bx, by];
    const x = a === b ? ax + a * reach * .75 : (ax + nextX) / 2, y = (ay + nextY) / 2;
    out.backing = draw("rect", {class: "backing", rx: 4, y: y - 17, height: 34});
    out.name = draw("text", {x, y: y - 3, "text-anchor": "middle", "font-size": 11.5, "font-weight": 600},
      clipped(edge.name + (edge.text ? ": " + edge.text : ""), 40));
    out.rate = draw("text", {x, y: y + 12, "text-anchor": "middle", "font-size": 11.5});
    label.append(out.backing, out.name, out.rate);
    out.at = x;
    return out;
  }

  box(node, svg) {
    const [x, y, width, height] = node.at;
    const group = draw("g", {class: node.kind});
    group.append(draw("title", {}, node.kind + " " + node.name),
      draw("rect", {class: "box", x, y, width, height, rx: node.kind === "host" ? 6 : 2}),
      draw("text", {x: x + 8, y: y + 18, "font-weight": 600, "font-size": 13}, clipped(node.name, 24)));
    const onSide = side => node.ports.filter(port => port[2] === side).length;
    const isRoomy = (height - 26) / Math.max(onSide(-1), onSide(1), 1) > 25;
    for (const [name, address, side, at] of isRoomy ? node.ports : []) {
      const isRight = side > 0 && onSide(-1) > 0;
      const where = {x: isRight ? x + width - 8 : x + 8, "text-anchor": isRight ? "end" : "start"};
      const most = onSide(-1) && onSide(1) ? 14 : 28;
      group.append(draw("text", {...where, y: at - 1, "font-size": 11}, clipped(name, most)),
        draw("text", {...where, class: "minor", y: at + 11, "font-size": 10}, clipped(address, most + 4)));
    }
    svg.append(group);
  }

  show(time) {
    for (const {edge, path, rate, name, backing, at} of this.edges) {
      if (!edge.name) continue;
      let isUp = true;
      for (const [since, up] of edge.ups) if (since <= time) isUp = up;
      const now = ["forward", "backward"].map(way => {
        const place = edge.rates[way];
        const plot = place && this.part.plot(place[0]);
        return plot ? valueAt(plot.series[place[1]], plot.style, time) : null;
      });
      const most = Math.max(now[0] || 0, now[1] || 0);
      const used = edge.capacity ? Math.min(most / edge.capacity, 1) : most / Math.max(this.part.fastest(), 1);
      path.setAttribute("stroke-width", isUp ? (1.5 + 8 * used).toFixed(2) : 2);
      path.classList.toggle("down", !isUp);
      path.style.stroke = isUp ? colour(edge.colour) : "";
      path.style.opacity = isUp && most === 0 ? .45 : 1;
      if (!rate) continue;
      const texts = [now[0] === null ? "" : "→ " + quantity(now[0], "bit/s", 3), now[1] === null ? "" : "← " + quantity(now[1], "bit/s", 3)];
      rate.textContent = !isUp ? "down" : texts.filter(Boolean).join("   ") +
        (edge.capacity && most ? `   ${Math.round(100 * most / edge.capacity)} %` : "");
      const wide = Math.max(name.textContent.length, rate.textContent.length) * 6.7 + 8;
      backing.setAttribute("x", at - wide / 2);
      backing.setAttribute("width", wide);
    }
  }
}

// -- a part of the page

class Part {
  constructor(article) {
    this.article = article;
    this.data = JSON.parse(document.getElementById(article.id + "-data").textContent);
    this.place = article.querySelector(".drawn");
    this.charts = [];
    this.viewCharts = [];
    this.seen = new IntersectionObserver(entries => {
      for (const entry of entries) if (entry.isIntersecting) this.appear(entry.target);
    }, {rootMargin: "300px"});
    this.byFigure = new Map();
    this.data.plots.forEach(read);
    if (this.data.span) {
      this.span = this.data.span;
      this.full = this.span;  // what "all" is: the whole, or the time of the chosen connection
      this.view = [...this.span];
      this.time = this.span[0];
      this.isPinned = false;
      this.build();
    } else if (this.data.listing) {  // a sweep: points, which have no time in common
      this.place.append(this.list());
    }
  }

  build() {
    const data = this.data;
    this.place.append(this.clock());
    this.networks = make("div");
    this.place.append(make("h3", {}, data.drawing ? "The network over time" : "The subflows over time"), this.networks);
    this.whole = make("div");
    this.place.append(this.whole);
    if (data.drawing) {
      this.network = new Network(this, data.drawing);
      this.networks.append(this.network.node);
    }
    this.charts = data.plots.map(plot => this.add(plot, this.whole));
    if (data.listing) this.place.append(this.list());
    if (data.connections.length) this.place.append(this.chooser());
    if (!data.drawing && !data.connections.length) this.networks.previousSibling.remove();
    this.events = make("div");
    this.place.append(this.events);
    if (data.connections.length) this.choose(0);
    else this.tell(data.events);
    this.goto(this.firstInstant());
  }

  firstInstant() {  // a moment at which something goes on, not the very first
    return this.full[0] + (this.full[1] - this.full[0]) / 3;
  }

  clock() {
    this.slider = make("input", {type: "range", min: 0, max: 1000, step: 1, value: 0,
      "aria-label": "Time"});
    this.slider.addEventListener("input", () => {
      const [from, to] = this.view;
      this.goto(from + (to - from) * this.slider.value / 1000);
    });
    this.readout = make("output", {"aria-live": "off"});
    this.pin = button("Pin", () => this.setPinned(!this.isPinned), {"aria-pressed": "false",
      title: "Keep the time where it is; a click into a plot does the same"});
    this.play = button("Play", () => this.run(), {"aria-pressed": "false"});
    return make("div", {class: "clock", role: "group", "aria-label": "Time and zoom"},
      this.readout, this.slider, this.play, this.pin,
      button("−", () => this.scale(2), {"aria-label": "Zoom out"}),
      button("+", () => this.scale(.5), {"aria-label": "Zoom in"}),
      button("←", () => this.shift(-.25), {"aria-label": "Earlier"}),
      button("→", () => this.shift(.25), {"aria-label": "Later"}),
      button("All", () => this.zoom(...this.full), {"aria-label": "Show the whole time"}));
  }

  add(plot, into) {
    const chart = new Chart(this, plot);
    into.append(chart.figure);
    chart.canvas.style.minHeight = chart.height() + "px";
    this.byFigure.set(chart.figure, chart);
    this.seen.observe(chart.figure);
    return chart;
  }

  appear(figure) {
    this.seen.unobserve(figure);
    const chart = this.byFigure.get(figure);
    if (chart) chart.build();
  }

  all() {
    return [...this.charts, ...this.viewCharts];
  }

  plot(key) {
    const chart = this.all().find(one => one.plot.key === key);
    return chart && chart.plot;
  }

  fastest() {
    if (this.most === undefined) {
      this.most = 0;
      for (const {plot} of this.all()) {
        if (plot.unit === "bit/s") {
          for (const one of plot.series) for (const value of one.y) if (value > this.most) this.most = value;
        }
      }
    }
    return this.most;
  }

  // time

  goto(time) {
    this.time = Math.min(Math.max(time, this.span[0]), this.span[1]);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.showTime();
    });
  }

  showTime() {
    const [from, to] = this.view;
    this.readout.textContent = "t = " + seconds(this.time, to - from);
    this.slider.value = 1000 * (this.time - from) / Math.max(to - from, 1e-12);
    this.slider.setAttribute("aria-valuetext", seconds(this.time, to - from));
    for (const chart of this.all()) if (chart.isOverTime) chart.show(this.time);
    for (const network of [this.network, this.viewNetwork]) if (network) network.show(this.time);
    if (this.eventRows) {
      for (const [at, row] of this.eventRows) row.classList.toggle("past", at > this.time);
    }
  }

  setPinned(isPinned) {
    this.isPinned = isPinned;
    this.pin.setAttribute("aria-pressed", isPinned);
    this.pin.textContent = isPinned ? "Pinned" : "Pin";
  }

  run() {
    this.isRunning = !this.isRunning;
    this.play.textContent = this.isRunning ? "Stop" : "Play";
    this.play.setAttribute("aria-pressed", this.isRunning);
    if (!this.isRunning) return;
    const [from, to] = this.view;
    let before = null;
    if (this.time >= to * .999) this.goto(from);
    const step = now => {
      if (!this.isRunning) return;
      if (before !== null) this.goto(this.time + (to - from) * (now - before) / 12000);
      before = now;
      if (this.time >= to) this.run(); else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  // zoom

  zoom(low, high) {
    const [first, last] = this.span;
    const least = Math.max((last - first) * 1e-6, 1e-6);
    let length = Math.min(Math.max(high - low, least), last - first);
    low = Math.min(Math.max(low, first), last - length);
    this.view = [low, low + length];
    for (const chart of this.all()) if (chart.isOverTime) chart.zoomed();
    this.goto(Math.min(Math.max(this.time, this.view[0]), this.view[1]));
  }

  scale(factor) {
    const [low, high] = this.view;
    const middle = this.time >= low && this.time <= high ? this.time : (low + high) / 2;
    this.zoom(middle - (middle - low) * factor, middle + (high - middle) * factor);
  }

  shift(part) {
    const [low, high] = this.view;
    this.zoom(low + (high - low) * part, high + (high - low) * part);
  }

  key(event) {
    if (event.target.closest("button, input, select, a") || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (this.view[1] - this.view[0]) / (event.shiftKey ? 20 : 200);
    const actions = {
      ArrowLeft: () => this.goto(this.time - step), ArrowRight: () => this.goto(this.time + step),
      "+": () => this.scale(.5), "=": () => this.scale(.5), "-": () => this.scale(2),
      "0": () => this.zoom(...this.full), Home: () => this.goto(this.view[0]), End: () => this.goto(this.view[1]),
    };
    if (actions[event.key]) {
      actions[event.key]();
      event.preventDefault();
    }
  }

  // connections

  chooser() {
    const names = this.data.connections;
    this.select = make("select", {"aria-label": "Connection"},
      ...names.map((name, i) => make("option", {value: i}, name)));
    this.select.addEventListener("change", () => this.choose(Number(this.select.value)));
    this.viewText = make("p", {class: "facts"});
    this.viewPlace = make("div");
    const chosen = make("div", {class: "chosen"}, make("h3", {}, "Connection"));
    this.paper = make("strong", {class: "paper"});  // what stands there when it is printed
    if (names.length > 1) chosen.append(this.select, this.paper); else chosen.append(make("strong", {}, names[0]));
    const note = this.data.left_out ? make("p", {class: "note"},
      `Plots of ${this.data.left_out} connections with less data are left out, so that the page stays small` +
      (this.data.listing ? "; mptcplab page CAPTURE --connection N makes a page of one of them." : ".")) : "";
    this.words = make("pre");
    this.told = make("details", {}, make("summary", {}, "The connection in words"), this.words);
    return make("div", {}, chosen, note, this.viewText, this.told, this.viewPlace);
  }

  choose(number) {
    const block = document.getElementById(`${this.article.id}-${number}`);
    const view = JSON.parse(block.textContent);
    for (const chart of this.viewCharts) {
      this.seen.unobserve(chart.figure);
      this.byFigure.delete(chart.figure);
      if (chart.chart) chart.chart.destroy();
    }
    if (this.select) this.select.value = number;
    this.paper.textContent = view.name;
    this.viewText.textContent = view.text;
    this.words.textContent = view.words;
    this.told.classList.toggle("hidden", !view.words);
    this.viewPlace.replaceChildren();
    view.plots.forEach(read);
    this.viewCharts = view.plots.map(plot => this.add(plot, this.viewPlace));
    this.most = undefined;
    if (this.viewNetwork) this.viewNetwork.node.remove();
    this.viewNetwork = view.drawing ? new Network(this, view.drawing) : null;
    if (this.viewNetwork) this.networks.append(this.viewNetwork.node);
    this.current = number;
    if (this.fillList) this.fillList();
    if (view.span) {
      this.full = view.span;
      this.zoom(...view.span);
      this.goto(this.firstInstant());
    }
    this.tell([...this.data.events, ...view.events].sort((a, b) => a[0] - b[0]));
    this.showTime();
  }

  tell(events) {
    this.eventRows = [];
    this.events.replaceChildren();
    if (!events.length) return;
    const body = make("tbody");
    const length = this.full[1] - this.full[0];
    const more = make("p", {class: "note more"});
    const add = (from, to) => {
      for (const [at, who, what, text] of events.slice(from, to)) {
        const row = make("tr", {}, make("th", {scope: "row"},
          button(seconds(at, length), () => { this.setPinned(true); this.goto(at); })),
          make("td", {}, who), make("td", {}, what), make("td", {}, text));
        this.eventRows.push([at, row]);
        body.append(row);
      }
      more.replaceChildren();
      if (to < events.length) {
        more.append(button(`Show all ${events.length} events`, () => add(to, events.length)));
      }
    };
    this.events.append(make("h3", {}, "Events"), make("div", {class: "events", tabindex: "0", role: "group", "aria-label": "Events"},
      make("table", {}, make("thead", {}, make("tr", {}, ...["time", "of", "event", ""].map(
        text => make("th", {scope: "col"}, text)))), body)), more);
    add(0, 200);
  }

  // the list of all connections of a capture

  list() {
    const {title, head, numeric, rows} = this.data.listing;
    const search = make("input", {type: "search", placeholder: "filter", "aria-label": "Filter the list: " + title});
    const count = make("span", {class: "facts", role: "status"});
    const body = make("tbody");
    const more = make("p", {class: "more"});
    let order = null, isDown = true, most = 12;
    this.fillList = () => {
      const wanted = search.value.trim().toLowerCase();
      let shown = rows.map((row, i) => [row, i]);
      if (wanted) shown = shown.filter(([row]) => row.some(cell => String(cell[0]).toLowerCase().includes(wanted)));
      if (order !== null) {
        shown.sort(([a], [b]) => {
          const [x, y] = [a[order].at(-1), b[order].at(-1)];
          const sign = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
          return isDown ? -sign : sign;
        });
      }
      count.textContent = `${shown.length} of ${rows.length}`;
      body.replaceChildren(...shown.slice(0, most).map(([row, i]) => {
        const node = make("tr", {class: i === this.current ? "current" : null});
        row.forEach((cell, k) => {
          const text = cell[0];
          const is = make(k ? "td" : "th", {class: numeric.includes(k) ? "number" : null, scope: k ? null : "row"});
          if (k === 0 && i < this.data.connections.length) {
            is.append(button(text, () => this.choose(i), {"aria-label": "Show connection " + text}));
          } else {
            is.append(text);
          }
          node.append(is);
        });
        return node;
      }));
      more.replaceChildren();
      if (shown.length > most) {
        more.append(button(`Show ${Math.min(shown.length - most, 250)} more`, () => { most += 250; this.fillList(); }));
      }
    };
    search.addEventListener("input", () => { most = 12; this.fillList(); });
    const heads = head.map((text, k) => make("th", {scope: "col", class: numeric.includes(k) ? "number" : null},
      button(text, () => {
        isDown = order === k ? !isDown : numeric.includes(k);
        order = k;
        heads.forEach((one, j) => one.setAttribute("aria-sort", j !== k ? "none" : isDown ? "descending" : "ascending"));
        this.fillList();
      })));
    const place = make("div", {}, make("h3", {}, title), make("div", {class: "controls"}, search, " ", count),
      make("div", {class: "wide listing"}, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body)), more);
    this.fillList();
    return place;
  }
}

// -- theme, printing, start

const parts = [];
const dark = matchMedia("(prefers-color-scheme: dark)");
const themes = ["automatic", "light", "dark"];
let theme = 0;

function apply(name) {
  document.documentElement.dataset.theme = name;
  for (const part of parts) {
    for (const chart of part.all()) chart.colours();
    if (part.span) part.showTime();
  }
}

function themed() {
  apply(themes[theme] === "automatic" ? (dark.matches ? "dark" : "light") : themes[theme]);
}

document.getElementById("theme").addEventListener("click", event => {
  theme = (theme + 1) % themes.length;
  event.currentTarget.textContent = "Theme: " + themes[theme];
  themed();
});
dark.addEventListener("change", themed);
addEventListener("beforeprint", () => {
  apply("light");
  for (const part of parts) {
    for (const chart of part.all()) chart.forPrint();
  }
});
addEventListener("afterprint", themed);

document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
for (const article of document.querySelectorAll("article")) {
  if (document.getElementById(article.id + "-data")) parts.push(new Part(article));
}
themed();
document.documentElement.dataset.ready = "true";
})();
