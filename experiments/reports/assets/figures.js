// Figures from data, drawn by Chart.js: values on hover, zoom by dragging, buttons or keys, a legend that hides.
"use strict";

const data = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const make = (tag, options = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
};
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A colour chosen for white paper, light enough for a dark page.
const shade = (color, opacity = 1) => {
  let parts = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const light = () => (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255;
  while (dark.matches && light() < 0.5) parts = parts.map((part) => part + 0.08 * (255 - part));
  return `rgb(${parts.map(Math.round).join(" ")} / ${opacity})`;
};

const number = (value) => {
  const near = value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5);
  return near ? String(Number(value.toPrecision(4))) : value.toExponential(2).replace(/\.?0+e/, "e");
};

// Chart.js has linear and logarithmic axes; another is drawn through its transform on a linear one.
const transform = (axis) =>
  axis.scale === "symlog" ? [(v) => Math.asinh(v / axis.linear), (v) => Math.sinh(v) * axis.linear] : [(v) => v, (v) => v];

// Round numbers, evenly apart.
const even = (low, high) => {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = power * [1, 2, 5, 10].find((own) => own * power >= (high - low) / 4);
  return [...Array(12)].map((_, i) => (Math.ceil(low / step) + i) * step).filter((value) => value <= high);
};

const decades = [...Array(60)].map((_, i) => Number(`1e${i - 30}`));

// Where an axis has marks: where the figure has them; else round numbers. Undefined: where Chart.js puts them.
const marks = (axis, low, high) => {
  const [there] = transform(axis);
  const inside = (values) => values.filter((value) => value >= low && value <= high);
  const fixed = inside((axis.ticks ?? []).map(([value]) => there(value)));
  if (fixed.length) return fixed;
  if (axis.scale === "symlog") {
    const far = decades.filter((value) => value >= axis.linear);
    return inside([...far.map((value) => -value).reverse(), 0, ...far].map(there));
  }
  if (axis.scale !== "log") return undefined;
  const steps = Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5];
  const round = inside(decades.flatMap((decade) => steps.map((step) => step * decade)));
  return round.length > 2 ? round : even(low, high);
};

const scale = (axis) => {
  const [there, back] = transform(axis);
  const [low, high] = axis.limits.map(there);
  return {
    type: axis.scale === "log" ? "logarithmic" : "linear",
    min: Math.min(low, high), max: Math.max(low, high), reverse: low > high,
    title: { display: Boolean(axis.label), text: axis.label, color: style("--soft") },
    grid: { color: style("--grid") }, border: { color: style("--line") },
    afterBuildTicks: (own) => {
      const places = marks(axis, own.min, own.max);
      if (places) own.ticks = places.map((value) => ({ value }));
    },
    ticks: {
      color: style("--soft"), includeBounds: false, autoSkipPadding: 10,
      maxRotation: axis.ticks?.some(([, text]) => text.length > 6) ? 60 : 0,
      callback: (value) => axis.ticks?.find(([own]) => Math.abs(there(own) - value) < 1e-9 * (1 + Math.abs(value)))?.[1] ?? number(back(value)),
    },
  };
};

// Marks of one size look of one size.
const swell = { rect: 1.15, rectRot: 1.15, crossRot: 1.3 };
const datasets = (panel) => panel.series.flatMap((series, place) => {
  const [tx, ty] = [transform(panel.x)[0], transform(panel.y)[0]];
  const at = (value, there) => (value === null ? NaN : there(value));
  const points = (values) => series.x.map((x, i) => ({ x: at(x, tx), y: at(values[i], ty), raw: [x, values[i]] }));
  const color = shade(series.color, series.opacity);
  const base = {
    label: series.name, series, order: -place, borderColor: color, backgroundColor: color, borderWidth: series.width ?? 1.5,
    pointRadius: 0, pointHoverRadius: 0,
  };
  if (series.kind === "band") {
    const edge = { ...base, borderWidth: 0, showLine: true };
    return [{ ...edge, data: points(series.y) }, { ...edge, data: points(series.top), fill: "-1" }];
  }
  const size = (series.size ?? 3) * (swell[series.marker] ?? 1);
  return [{
    ...base, data: points(series.y), showLine: series.kind !== "points", stepped: series.steps ? "before" : false, borderDash: series.dash ?? [],
    pointStyle: series.marker || "circle", pointRadius: series.marker ? size : 0, pointHoverRadius: series.kind === "segments" ? 0 : Math.max(4, size + 1.5),
    pointBackgroundColor: series.hollow ? style("--card") : color, pointBorderColor: color, pointBorderWidth: series.hollow || series.marker === "crossRot" ? 1.8 : 0,
    pointHoverBorderWidth: 2, pointHoverBorderColor: shade(series.color),
  }];
});

// An axis without a label of its own has the panel's title.
const label = (panel, name) => panel[name].label || (name === "y" && panel.title) || name;
const worded = (panel, name) => label(panel, name).replace(/\s*\[.*\]/, "").trim();
const shown = (panel, name, value) => {
  const unit = { "%": " %" }[/\[(.*)\]/.exec(label(panel, name))?.[1]] ?? "";
  return panel[name].ticks?.find(([own]) => own === value)?.[1] ?? number(value) + unit;
};

// What a point says: its series, its place, and the band around it.
const told = (panel, series, [x, y]) => {
  const band = panel.series.find((own) => own.kind === "band" && own.name === series.name && own.x.includes(x));
  const at = band?.x.indexOf(x);
  const lines = [`${worded(panel, "x")}: ${shown(panel, "x", x)}`, `${worded(panel, "y")}: ${shown(panel, "y", y)}`];
  if (band) lines.push(`shaded: ${shown(panel, "y", band.y[at])} to ${shown(panel, "y", band.top[at])}`);
  return lines;
};

// The nearest point in sight of what has points of its own to tell.
const telling = (dataset) => !["band", "segments"].includes(dataset.series.kind);
Chart.Interaction.modes.telling = (chart, event) => {
  const pointer = Chart.helpers.getRelativePosition(event, chart);
  const { left, right, top, bottom } = chart.chartArea;
  let nearest = [], least = Infinity;
  for (const { data: points, index: datasetIndex } of chart.getSortedVisibleDatasetMetas()) {
    if (!telling(chart.data.datasets[datasetIndex])) continue;
    points.forEach((element, index) => {
      const { x, y } = element;
      const far = Math.hypot(x - pointer.x, y - pointer.y);
      if (far >= least || x < left - 1 || x > right + 1 || y < top - 1 || y > bottom + 1) return;
      [nearest, least] = [[{ element, datasetIndex, index }], far];
    });
  }
  return nearest;
};

const draw = (canvas, panel) => new Chart(canvas, {
  type: "scatter",
  data: { datasets: datasets(panel) },
  options: {
    responsive: true, maintainAspectRatio: false, animation: false,
    events: ["mousemove", "mouseout", "touchstart", "touchmove"],
    interaction: { mode: "telling", intersect: false, axis: "xy" },
    scales: { x: scale(panel.x), y: scale(panel.y) },
    plugins: {
      legend: { display: false },
      tooltip: {
        displayColors: false, backgroundColor: style("--ink"), bodyColor: style("--paper"), titleColor: style("--paper"), padding: 8,
        callbacks: { title: ([item]) => item?.dataset.series.name, label: (item) => told(panel, item.dataset.series, item.raw.raw) },
      },
      zoom: {
        limits: { x: { min: "original", max: "original" }, y: { min: "original", max: "original" } },
        zoom: { mode: "xy", drag: { enabled: true, threshold: 6, backgroundColor: shade("#888888", 0.25) }, wheel: { enabled: true, modifierKey: "ctrl" } },
      },
    },
  },
});

// Keys on a panel that has the focus: arrows go from point to point and from line to line.
const keys = (chart, panel, state) => (event) => {
  const shift = 0.1 * chart.width;
  const pan = { ArrowLeft: { x: shift }, ArrowRight: { x: -shift }, ArrowUp: { y: shift }, ArrowDown: { y: -shift } };
  const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in zoom) chart.zoom(zoom[event.key], "none");
  else if (event.key === "0" || event.key === "Escape") chart.resetZoom("none");
  else if (event.shiftKey && event.key in pan) chart.pan(pan[event.key], undefined, "none");
  else if (event.key in pan) step(chart, panel, state, event.key);
  else return;
  event.preventDefault();
};
const step = (chart, panel, state, key) => {
  const sets = chart.data.datasets.map((_, i) => i).filter((i) => telling(chart.data.datasets[i]) && chart.isDatasetVisible(i));
  if (!sets.length) return;
  const place = Math.max(0, sets.indexOf(state.set));
  state.set = sets[(place + ({ ArrowUp: sets.length - 1, ArrowDown: 1 }[key] ?? 0)) % sets.length];
  const { left, right, top, bottom } = chart.chartArea;
  const inside = chart.getDatasetMeta(state.set).data
    .map((point, index) => ({ index, x: point.x, y: point.y }))
    .filter(({ x, y }) => x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1);
  if (!inside.length) return;
  const now = inside.findIndex(({ index }) => index >= (state.index ?? -1));
  const next = { ArrowLeft: now - 1, ArrowRight: state.index === undefined ? 0 : now + 1 }[key] ?? now;
  const at = inside[Math.min(Math.max(next, 0), inside.length - 1)];
  state.index = at.index;
  const active = [{ datasetIndex: state.set, index: at.index }];
  chart.setActiveElements(active);
  chart.tooltip.setActiveElements(active, { x: at.x, y: at.y });
  chart.update("none");
  const dataset = chart.data.datasets[state.set];
  document.getElementById("said").textContent = [dataset.series.name, ...told(panel, dataset.series, dataset.data[at.index].raw)].join(", ");
};

// The sign of an entry of the legend.
const sign = (entry) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const color = shade(entry.color);
  const part = (tag, attributes) => {
    const element = document.createElementNS(svg.namespaceURI, tag);
    for (const [name, value] of Object.entries({ stroke: color, fill: entry.hollow ? "none" : color, "stroke-width": 2, ...attributes })) element.setAttribute(name, value);
    svg.append(element);
  };
  for (const [name, value] of Object.entries({ width: 26, height: 14, "aria-hidden": "true" })) svg.setAttribute(name, value);
  if (entry.line) part("line", { x1: 1, x2: 25, y1: 7, y2: 7, "stroke-dasharray": entry.dash.join(" ") });
  const shapes = { circle: "M9 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", rect: "M9 3h8v8h-8z", triangle: "M13 2.5l4.5 8h-9z", rectRot: "M13 2l5 5l-5 5l-5-5z", crossRot: "M9 3l8 8m0-8l-8 8" };
  if (entry.marker) part("path", { d: shapes[entry.marker] });
  return svg;
};

class Drawing {
  constructor(figure, spec) {
    Object.assign(this, { figure, spec, hidden: new Set(), chosen: {}, charts: [] });
    this.panels = make("div", { className: "panels" });
    this.controls = make("div", { className: "controls" });
    figure.append(this.controls, this.panels);
    const tags = [...new Set(spec.panels.flatMap((panel) => Object.keys(panel.tags ?? {})))];
    this.choices = tags.map((tag) => [tag, [...new Set(spec.panels.map((panel) => panel.tags?.[tag]).filter(Boolean))]]);
    for (const [tag, values] of this.choices) this.chosen[tag] = values[0];
    this.control();
    this.frame();
  }

  control() {
    const entries = this.spec.legend.map((entry, i) => {
      const button = make("button", { className: "key", type: "button" }, sign(entry), entry.name);
      button.setAttribute("aria-pressed", String(!this.hidden.has(i)));
      button.title = "Show or hide";
      button.addEventListener("click", () => {
        this.hidden.has(i) ? this.hidden.delete(i) : this.hidden.add(i);
        button.setAttribute("aria-pressed", String(!this.hidden.has(i)));
        this.charts.forEach((chart) => this.hide(chart));
      });
      return button;
    });
    const selects = this.choices.filter(([, values]) => values.length > 1).map(([tag, values]) => {
      const select = make("select", {}, ...values.map((value) => make("option", { textContent: value, selected: value === this.chosen[tag] })));
      select.addEventListener("change", () => {
        this.chosen[tag] = select.value;
        this.frame();
      });
      return make("label", { textContent: `${tag} ` }, select);
    });
    const zoom = [["−", "Zoom out", (chart) => chart.zoom(1 / 1.4, "none")], ["+", "Zoom in", (chart) => chart.zoom(1.4, "none")], ["Reset", "Reset the zoom", (chart) => chart.resetZoom("none")]].map(([text, title, work]) => {
      const button = make("button", { className: "plain", type: "button", textContent: text, title });
      button.setAttribute("aria-label", title);
      button.addEventListener("click", () => { this.draw(); this.charts.forEach(work); });
      return button;
    });
    this.controls.replaceChildren(...selects, ...entries, make("span", { className: "zoom" }, ...zoom));
  }

  // Makes room for the panels that were chosen; they are drawn when they come into sight.
  frame() {
    this.charts.forEach((chart) => chart.destroy());
    this.charts = [];
    const panels = this.spec.panels.filter((panel) => this.choices.every(([tag]) => !panel.tags?.[tag] || panel.tags[tag] === this.chosen[tag]));
    this.rooms = panels.map((panel) => {
      const canvas = make("canvas", { tabIndex: 0 });
      canvas.setAttribute("role", "img");
      const axes = `${worded(panel, "y")} over ${worded(panel, "x")}`;
      canvas.setAttribute("aria-label", `${[panel.title, axes].filter(Boolean).join(": ")}. Arrow keys read the values, + and − zoom, 0 resets.`);
      const room = make("div", { className: "panel" }, ...(panel.title ? [make("h4", { textContent: panel.title })] : []), make("div", { className: panel.square ? "square" : "" }, canvas));
      return { panel, canvas, room };
    });
    this.panels.classList.toggle("alone", panels.length < 3);
    // Four in two rows, not three and one.
    this.panels.style.setProperty("--least", panels.length === 4 ? "22rem" : "17.5rem");
    this.panels.replaceChildren(...this.rooms.map(({ room }) => room));
    if (this.seen) this.draw();
  }

  draw() {
    this.seen = true;
    if (this.charts.length) return;
    this.charts = this.rooms.map(({ panel, canvas }) => {
      const chart = draw(canvas, panel);
      this.hide(chart);
      canvas.onkeydown = keys(chart, panel, {});
      canvas.ondblclick = () => chart.resetZoom("none");
      canvas.onblur = () => {
        chart.setActiveElements([]);
        chart.tooltip.setActiveElements([], { x: 0, y: 0 });
        chart.update("none");
      };
      return chart;
    });
  }

  hide(chart) {
    chart.data.datasets.forEach((dataset, i) => chart.setDatasetVisibility(i, !(dataset.series.entries ?? []).some((entry) => this.hidden.has(entry))));
    chart.update("none");
  }

  again() {
    this.control();
    this.frame();
  }
}

Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
Chart.defaults.font.size = 12;
const drawings = [...document.querySelectorAll("figure[data-chart]")].map((figure) => new Drawing(figure, data[figure.dataset.chart]));
const near = new IntersectionObserver((changes) => {
  for (const { isIntersecting, target } of changes) if (isIntersecting) drawings.find(({ figure }) => figure === target).draw();
}, { rootMargin: "400px" });
drawings.forEach(({ figure }) => near.observe(figure));
addEventListener("beforeprint", () => drawings.forEach((drawing) => drawing.draw()));
dark.addEventListener("change", () => drawings.forEach((drawing) => drawing.again()));
