"use strict";
// Works on DATA, which the page defines.  Charts are drawn when they come into view.

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const find = (selector, within = document) => within.querySelector(selector);
const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => element("option", {value, textContent: text})));
  if (chosen !== undefined) select.value = chosen;
}

const same = (values) => values.map((value) => [value, value]);
const unique = (values) => [...new Set(values)];

// Theme

let printing = false;

function isDark() {
  if (printing) return false;
  return root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
}

function color(name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

// Charts

const charts = new Map();

/** Register a chart; figure() returns {data, layout} or text that says why there is none. */
function chart(place, figure) {
  charts.set(place, {figure, drawn: false});
  watcher.observe(place);
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
}, {rootMargin: "300px"});

function draw(place) {
  const state = charts.get(place);
  const figure = state.figure();
  place.classList.toggle("empty", typeof figure === "string");
  if (typeof figure === "string") {
    if (state.drawn) Plotly.purge(place);
    state.drawn = false;
    place.textContent = figure;
    return;
  }
  if (!state.drawn) place.textContent = "";
  state.drawn = true;
  Plotly.react(place, figure.data.map(styled), themed(figure.layout, figure.data), {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["lasso2d", "select2d"],
  });
}

function redraw() {
  for (const [place, state] of charts) if (state.drawn) draw(place);
}

function styled(trace) {
  const meta = trace.meta || {};
  if (meta.color === undefined) return trace;
  const palette = DATA.palette[isDark() ? "dark" : "light"];
  const shade = meta.color < 0 ? color("--soft") : palette[meta.color % palette.length];
  const made = {...trace, line: {width: 2, ...trace.line, color: shade, dash: meta.dash || "solid"}};
  if (trace.marker) made.marker = {...trace.marker, color: shade};
  if (trace.type === "bar") delete made.line;
  if (trace.error_y) made.error_y = {...trace.error_y, color: shade};
  return made;
}

function themed(layout, data) {
  const ink = color("--ink");
  const line = color("--line");
  const axis = {gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true};
  const narrow = innerWidth < 640;
  const made = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: ink, family: "system-ui, sans-serif", size: narrow ? 12 : 13},
    margin: {t: 25, r: 20, b: 55, l: 60},
    hovermode: "closest",
    hoverlabel: {bgcolor: color("--paper"), bordercolor: color("--edge"), font: {color: ink}},
    legend: {orientation: "h", y: -0.22, yanchor: "top", x: 0},
    ...layout,
  };
  if (data.some((trace) => trace.type === "scatterpolar")) {
    // From a round value below the least: the differences are what is looked at.
    const least = Math.min(...data.flatMap((trace) => trace.r));
    const range = [Math.max(0, Math.floor(least / 10) * 10), Math.max(100, ...data.flatMap((trace) => trace.r))];
    const radial = {gridcolor: line, linecolor: line, angle: 90, range, ...layout.polar.radialaxis};
    made.polar = {bgcolor: "rgba(0,0,0,0)", radialaxis: radial, angularaxis: {gridcolor: line, linecolor: line}};
    made.margin = {t: 45, r: 40, b: 30, l: 40};
    made.legend = {...made.legend, y: -0.12};
  } else {
    made.xaxis = {...axis, ...layout.xaxis};
    made.yaxis = {...axis, ...layout.yaxis};
  }
  return made;
}

// Rate and score

function curvesOf(number) {
  const group = DATA.curves[number];
  const controls = find(`[data-controls="${number}"]`);
  const role = (name) => find(`[data-role="${name}"]`, controls);
  const published = new Set(group.published);
  const own = group.models.filter((model) => !published.has(model));
  const mixed = own.length > 0 && published.size > 0;
  const label = (model) => [model, mixed && published.has(model) ? `published: ${model}` : model];
  const first = own[0] || group.models[0];
  const twin = mixed ? group.published.find((model) => model.split(" (")[0] === first.split(" (")[0]) : "";
  fill(role("model"), group.models.map(label), first);
  // A model with its adaptor is seen beside the model without.
  const adapted = group.models.find((model) => model.startsWith(`${first} + `)) || "";
  fill(role("beside"), [["", "none"], ...group.models.map(label)], mixed ? twin || group.published[0] : adapted);
  role("published-label").hidden = !mixed;
  if (group.models.length < 2) for (const name of ["model", "beside"]) role(name).parentElement.hidden = true;

  const chosen = () => unique([role("model").value, role("beside").value])
    .filter((model) => model && (!mixed || role("published").checked || !published.has(model)));
  const traces = () => chosen().flatMap((model, place) => group.figure.data
    .filter((trace) => trace.meta.model === model)
    .map((trace) => ({
      ...trace,
      name: chosen().length > 1 ? `${trace.name} · ${model}` : trace.name,
      meta: {...trace.meta, dash: DATA.dashes[place]},
    })));
  const layout = () => {
    const log = role("log").checked;
    const {tickvals, ticktext, ...axis} = group.figure.layout.xaxis;
    const ticks = log ? {tickvals, ticktext} : {rangemode: "tozero"};
    return {...group.figure.layout, xaxis: {...axis, ...ticks, type: log ? "log" : "linear"}};
  };
  const place = find(`[data-curves="${number}"]`);
  chart(place, () => {
    const data = traces();
    return data.some((trace) => trace.meta.color >= 0) ? {data, layout: layout()} : "No rate is known for these curves.";
  });
  const details = find(`[data-points="${number}"]`);
  const refresh = () => {
    draw(place);
    if (details.open) points(details, traces());
  };
  controls.addEventListener("change", refresh);
  details.addEventListener("toggle", () => details.open && points(details, traces()));
}

function points(details, traces) {
  const head = ["model", "codec", "level", "bpp", "score"];
  const rows = traces.filter((trace) => trace.meta.color >= 0).flatMap((trace) => trace.x.map((bpp, i) => [
    trace.meta.model, trace.meta.codec, trace.customdata[i][0], bpp.toFixed(4), trace.y[i].toFixed(2)]));
  const cell = (text, i) => element("td", {textContent: text, className: i < 3 ? "text" : ""});
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text, i) =>
      element("th", {scope: "col", textContent: text, className: i < 3 ? "text" : ""})))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))));
  find(".scroll", details).replaceChildren(table);
}

// The other charts

// A section without content is not in the page.

function radar() {
  const select = find("#radar-show");
  if (!select) return;
  const shows = unique(DATA.radar.data.map((trace) => `${trace.meta.view}: ${trace.meta.show}`));
  fill(select, same(shows));
  const place = find("#radar");
  chart(place, () => ({
    data: DATA.radar.data.filter((trace) => `${trace.meta.view}: ${trace.meta.show}` === select.value),
    layout: DATA.radar.layout,
  }));
  select.addEventListener("change", () => draw(place));
}

function scaling() {
  const task = find("#scaling-task");
  if (!task) return;
  const codec = find("#scaling-codec");
  const data = DATA.scaling.data;
  fill(task, same(unique(data.map((trace) => trace.meta.task))));
  fill(codec, same(unique(data.map((trace) => trace.meta.codec))));
  const place = find("#scaling");
  const chosen = () => data.filter((trace) => trace.meta.task === task.value && trace.meta.codec === codec.value);
  chart(place, () => chosen().length ? {data: chosen(), layout: DATA.scaling.layout} : "This codec was not run on this task.");
  for (const select of [task, codec]) select.addEventListener("change", () => draw(place));
}

function others() {
  if (find("#correlation")) chart(find("#correlation"), () => DATA.correlation);
}

/** Register the charts of which a list chooses the traces. */
function chosenCharts() {
  for (const select of findAll("[data-chart]")) {
    const {data, layout} = DATA[select.dataset.chart];
    const shows = unique(data.map((trace) => trace.meta.show));
    fill(select, same(shows));
    select.closest(".controls").hidden = shows.length < 2;
    const place = find(`#${select.dataset.chart}`);
    chart(place, () => ({data: data.filter((trace) => trace.meta.show === select.value), layout}));
    select.addEventListener("change", () => draw(place));
  }
}

// Tables

function sortable(table) {
  const heads = findAll("thead th", table);
  heads.forEach((head, column) => find("button", head).addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") === "descending"
      || (!head.hasAttribute("aria-sort") && column === 0);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.value;
    const text = (row) => row.cells[column].textContent.trim();
    const sign = ascending ? 1 : -1;
    // Cells without a number stay last, whichever way.
    body.append(...[...body.rows].sort((a, b) => {
      if (key(a) !== undefined && key(b) !== undefined) return sign * (key(a) - key(b));
      if (key(a) !== undefined || key(b) !== undefined) return key(a) === undefined ? 1 : -1;
      return sign * text(a).localeCompare(text(b), undefined, {numeric: true});
    }));
  }));
}

for (const select of findAll("[data-filter]")) {
  select.addEventListener("change", () => {
    for (const part of findAll(`[data-of="${select.dataset.filter}"]`)) part.hidden = part.dataset.key !== select.value;
  });
  if (select.options.length < 2) select.closest(".controls").hidden = true;
}

// Start

const THEMES = ["", "light", "dark"];
find("#theme").addEventListener("click", (event) => {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  event.target.textContent = `Theme: ${next || "system"}`;
  redraw();
});
systemDark.addEventListener("change", redraw);
addEventListener("beforeprint", () => {
  printing = true;
  root.dataset.before = root.dataset.theme || "";
  root.dataset.theme = "light";
  for (const place of charts.keys()) draw(place);
});
addEventListener("afterprint", () => {
  printing = false;
  if (root.dataset.before) root.dataset.theme = root.dataset.before; else delete root.dataset.theme;
  redraw();
});

DATA.curves.forEach((_, number) => curvesOf(number));
radar();
scaling();
others();
chosenCharts();
findAll("table.sortable").forEach(sortable);
