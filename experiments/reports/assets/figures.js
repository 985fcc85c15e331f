// What a reader does with the figures that Vega draws: values, zoom, by mouse and keys; the legend hides, a choice changes.
"use strict";

const data = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const make = (tag, options = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
};
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A colour chosen for white paper, light enough for a dark page; what was nearly black is nearly white there.
const shade = (color) => {
  let parts = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  if (dark.matches && Math.max(...parts) === Math.min(...parts)) parts = parts.map((part) => 255 - part);
  const light = () => (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255;
  while (dark.matches && light() < 0.5) parts = parts.map((part) => part + 0.08 * (255 - part));
  return `#${parts.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
};
const shaded = (spec) => JSON.parse(JSON.stringify(spec).replace(/#[0-9a-f]{6}\b/gi, shade).replaceAll('"white"', `"${style("--card")}"`));
const look = () => {
  const axis = { gridColor: style("--grid"), domainColor: style("--line"), tickColor: style("--line"), labelColor: style("--soft"), titleColor: style("--soft") };
  const font = { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelOverlap: true };
  return { aria: false, background: null, font: getComputedStyle(document.body).fontFamily, view: { stroke: null }, axis: { ...axis, ...font }, text: { color: style("--soft") } };
};

const number = (value) => {
  const near = value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5);
  return near ? String(Number(value.toPrecision(4))) : value.toExponential(2).replace(/\.?0+e/, "e");
};
// An axis without a label of its own has the panel's title.
const label = (panel, name) => panel[name].label || (name === "y" && panel.title) || name;
const worded = (panel, name) => label(panel, name).replace(/\s*\[.*\]/, "").trim();
const shown = (panel, name, value) => {
  const unit = { "%": " %" }[/\[(.*)\]/.exec(label(panel, name))?.[1]] ?? "";
  return panel[name].ticks?.find(([own]) => own === value)?.[1] ?? number(value) + unit;
};

class View {
  constructor(panel, spec, hidden) {
    this.rows = panel.series.flatMap(({ x, y, top }, s) => x.map((at, i) => ({ s, x: at, y: y[i], top: (top ?? y)[i] })));
    Object.assign(this, { panel, spec, hidden, ends: { x: panel.x.limits, y: panel.y.limits } });
    this.tip = make("div", { className: "tip", hidden: true });
    this.dot = make("div", { className: "dot", hidden: true });
    this.lens = make("div", { className: "lens", hidden: true });
    this.plot = make("div", { className: "plot" });
    this.box = make("div", { className: `view${panel.square ? " square" : ""}`, tabIndex: 0 }, this.plot, this.lens, this.dot, this.tip);
    const axes = `${worded(panel, "y")} over ${worded(panel, "x")}`;
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-label", `${[panel.title, axes].filter(Boolean).join(": ")}. Arrow keys read the values, + and − zoom, 0 resets.`);
    this.room = make("div", { className: "panel" }, ...(panel.title ? [make("h4", { textContent: panel.title })] : []), this.box);
    this.listen();
  }

  async draw() {
    if (this.view || this.begun) return;
    this.begun = true;
    const spec = shaded(this.spec);
    spec.data.values = this.rows;
    // Names of points have no room on a phone.
    if (this.box.clientWidth < 400) spec.layer = spec.layer.filter(({ mark }) => mark.type !== "text" || mark.fontStyle);
    spec.params = [{ name: "xEnds", value: this.ends.x }, { name: "yEnds", value: this.ends.y }, { name: "hidden", value: [] }];
    const drawn = await vegaEmbed(this.plot, spec, { ast: true, actions: false, renderer: "svg", tooltip: false, config: look() });
    this.view = drawn.view;
    this.hide();
  }

  again() {
    this.view?.finalize();
    this.view = this.begun = undefined;
    this.forget();
    return this.draw();
  }

  out({ entries }) { return Boolean(entries?.some((entry) => this.hidden.has(entry))); }
  hide() {
    const out = this.panel.series.flatMap((own, i) => (this.out(own) ? [i] : []));
    this.view?.signal("hidden", out).run();
    this.forget();
  }

  set(ends) {
    this.ends = ends;
    this.forget();
    return this.view.signal("xEnds", ends.x).signal("yEnds", ends.y).runAsync();
  }
  reset() { return this.set({ x: this.panel.x.limits, y: this.panel.y.limits }); }
  // Shows what is between pixels; never more than the whole.
  show(pixels) {
    const ends = {};
    for (const name of ["x", "y"]) {
      const scale = this.view.scale(name), whole = this.panel[name].limits;
      const [low, high] = [Math.min(...whole), Math.max(...whole)];
      ends[name] = pixels[name].map((pixel) => Math.min(Math.max(scale.invert(pixel), low), high));
      if (ends[name][0] === ends[name][1]) ends[name] = this.ends[name];
    }
    return this.set(ends);
  }
  // Where the panel's own corner is in its box.
  origin() {
    const [x, y] = this.view.origin(), { left, top } = this.view.padding();
    return [x + left, y + top];
  }
  range() { return { x: [0, this.view.width()], y: [this.view.height(), 0] }; }
  zoom(factor) {
    const away = ([from, to]) => [from, to].map((end) => (from + to) / 2 + (end - (from + to) / 2) / factor);
    const { x, y } = this.range();
    return this.show({ x: away(x), y: away(y) });
  }
  pan(x, y) {
    const { x: across, y: up } = this.range();
    return this.show({ x: across.map((end) => end + x * this.view.width()), y: up.map((end) => end - y * this.view.height()) });
  }

  // The points in sight of what has points of its own to tell, with their places.
  points() {
    const [x, y] = [this.view.scale("x"), this.view.scale("y")], { x: [, width], y: [height] } = this.range();
    const telling = this.panel.series.map((own) => ["line", "points"].includes(own.kind) && !this.out(own));
    return this.rows
      .filter((row) => telling[row.s] && row.x !== null && row.y !== null)
      .map((row) => ({ row, x: x(row.x), y: y(row.y) }))
      .filter((at) => at.x >= -1 && at.x <= width + 1 && at.y >= -1 && at.y <= height + 1);
  }
  // What a point says: its series, its place, and the band around it.
  told({ s, x, y }) {
    const { panel } = this, { name } = panel.series[s];
    const shades = panel.series.map((own) => own.kind === "band" && own.name === name);
    const band = this.rows.find((row) => shades[row.s] && row.x === x);
    const lines = [`${worded(panel, "x")}: ${shown(panel, "x", x)}`, `${worded(panel, "y")}: ${shown(panel, "y", y)}`];
    return [name, ...lines, ...(band ? [`shaded: ${shown(panel, "y", band.y)} to ${shown(panel, "y", band.top)}`] : [])].filter(Boolean);
  }
  tell({ row, x, y }) {
    const [left, top] = this.origin(), lines = this.told(row);
    this.at = row;
    this.tip.replaceChildren(...lines.map((line, i) => make(i || lines.length < 3 ? "div" : "strong", { textContent: line })));
    this.tip.hidden = this.dot.hidden = false;
    this.dot.style.translate = `${left + x}px ${top + y}px`;
    const { width, height } = this.tip.getBoundingClientRect();
    const over = top + y - height - 12;
    const aside = Math.min(Math.max(0, left + x - width / 2), this.box.clientWidth - width);
    this.tip.style.translate = `${aside}px ${over < 0 ? top + y + 12 : over}px`;
    return lines;
  }
  forget() { this.tip.hidden = this.dot.hidden = true; }

  // The keys: arrows go from point to point and from line to line.
  step(key) {
    const points = this.points(), sets = [...new Set(points.map(({ row }) => row.s))];
    if (!sets.length) return;
    const place = Math.max(0, sets.indexOf(this.at?.s)), move = { ArrowUp: sets.length - 1, ArrowDown: 1 }[key] ?? 0;
    const own = points.filter(({ row }) => row.s === sets[(place + move) % sets.length]);
    const now = this.at ? Math.max(0, own.findIndex(({ row }) => (move ? row.x >= this.at.x : row === this.at))) : -1;
    const next = now + ({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0);
    document.getElementById("said").textContent = this.tell(own[Math.min(Math.max(next, 0), own.length - 1)]).join(", ");
  }
  key(event) {
    const pan = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 };
    if (!this.view || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in zoom) this.zoom(zoom[event.key]);
    else if (event.key === "0" || event.key === "Escape") this.reset();
    else if (event.shiftKey && event.key in pan) this.pan(...pan[event.key]);
    else if (event.key in pan) this.step(event.key);
    else return;
    event.preventDefault();
  }

  // The pointer: the nearest point tells; a drag of the mouse zooms into what it spans.
  listen() {
    const { box, lens } = this;
    const place = (event) => {
      const { left, top } = box.getBoundingClientRect(), [x, y] = this.origin();
      return [event.clientX - left - x, event.clientY - top - y];
    };
    let from;
    box.addEventListener("pointerdown", (event) => {
      if (!this.view) return;
      if (event.pointerType === "mouse" && event.button === 0) from = place(event);
      else this.near(place(event));
    });
    box.addEventListener("pointermove", (event) => {
      if (!this.view || event.pointerType !== "mouse") return;
      const [x, y] = place(event);
      lens.hidden = !from || Math.hypot(x - from[0], y - from[1]) < 6;
      if (lens.hidden) return this.near([x, y]);
      box.setPointerCapture(event.pointerId);
      this.forget();
      const [left, top] = this.origin();
      Object.assign(lens.style, { left: `${left + Math.min(x, from[0])}px`, top: `${top + Math.min(y, from[1])}px`, width: `${Math.abs(x - from[0])}px`, height: `${Math.abs(y - from[1])}px` });
    });
    box.addEventListener("pointerup", (event) => {
      const [x, y] = this.view ? place(event) : [];
      if (from && !lens.hidden) this.show({ x: [from[0], x].sort((a, b) => a - b), y: [from[1], y].sort((a, b) => b - a) });
      from = undefined;
      lens.hidden = true;
    });
    box.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.forget());
    box.addEventListener("dblclick", () => this.view && this.reset());
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("blur", () => this.forget());
    box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey || !this.view) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    }, { passive: false });
  }
  near([x, y]) {
    const far = (at) => Math.hypot(at.x - x, at.y - y);
    const nearest = this.points().reduce((best, at) => (!best || far(at) < far(best) ? at : best), undefined);
    nearest ? this.tell(nearest) : this.forget();
  }
}

class Drawing {
  constructor(figure, whole) {
    Object.assign(this, { figure, whole, hidden: new Set() });
    this.keys = [...figure.querySelectorAll(".key")];
    this.choices = [...figure.querySelectorAll("select")];
    this.keys.forEach((key, i) => key.addEventListener("click", () => {
      this.hidden.has(i) ? this.hidden.delete(i) : this.hidden.add(i);
      key.setAttribute("aria-pressed", String(!this.hidden.has(i)));
      this.views.forEach((view) => view.hide());
    }));
    this.choices.forEach((choice) => {
      choice.parentElement.hidden = choice.hidden;
      choice.addEventListener("change", () => this.frame());
    });
    for (const button of figure.querySelectorAll("[data-zoom]")) {
      const factor = Number(button.dataset.zoom);
      button.addEventListener("click", () => this.views.forEach(async (view) => {
        await view.draw();
        factor ? view.zoom(factor) : view.reset();
      }));
    }
    figure.querySelector(".controls").hidden = false;
    this.frame();
  }

  // Makes room for the panels that were chosen; they are drawn when they come into sight.
  frame() {
    const panels = this.whole.panels.filter(({ tags }) => this.choices.every(({ dataset, value }) => !tags?.[dataset.tag] || tags[dataset.tag] === value));
    this.views?.forEach(({ view }) => view?.finalize());
    this.views = panels.map((panel) => new View(panel, this.whole.specs[panel.spec], this.hidden));
    const room = this.figure.querySelector(".panels");
    room.classList.toggle("alone", panels.length < 3);
    // Four in two rows, not three and one; two records beside each other.
    room.style.setProperty("--least", panels.length === 4 || this.whole.records === 2 ? "22rem" : "17.5rem");
    room.replaceChildren(...this.views.map((view) => view.room));
    this.color();
    if (this.seen) this.draw();
  }

  color() { this.keys.forEach((key) => { key.querySelector("svg").style.color = shade(key.dataset.color); }); }

  draw() {
    this.seen = true;
    this.views.forEach((view) => view.draw());
  }

  again() {
    this.color();
    if (this.seen) this.views.forEach((view) => view.again());
  }
}

const drawings = [...document.querySelectorAll("figure[data-chart]")].map((figure) => new Drawing(figure, data[figure.dataset.chart]));
const near = new IntersectionObserver((changes) => {
  for (const { isIntersecting, target } of changes) if (isIntersecting) drawings.find(({ figure }) => figure === target).draw();
}, { rootMargin: "400px" });
drawings.forEach(({ figure }) => near.observe(figure));
addEventListener("beforeprint", () => drawings.forEach((drawing) => drawing.draw()));
dark.addEventListener("change", () => drawings.forEach((drawing) => drawing.again()));
