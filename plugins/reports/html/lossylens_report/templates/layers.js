"use strict";
// Draws the charts of DATA, which the page defines, in the theme of the page.

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const button = document.querySelector("#theme");

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();

function styled(trace) {
  const palette = DATA.palette[isDark() ? "dark" : "light"];
  const {color: place, dash} = trace.meta;
  const shade = place < 0 ? color("--ink") : palette[place % palette.length];
  return {...trace, line: {width: place < 0 ? 3 : 2, color: shade, dash}};
}

// Layers with windows shaded, the begin of each stage marked and named.
const SHAPES = () => [
  ...DATA.windowed.map((layer) => ({type: "rect", yref: "paper", x0: layer - 0.5, x1: layer + 0.5,
    y0: 0, y1: 1, line: {width: 0}, fillcolor: color("--line"), opacity: 0.5, layer: "below"})),
  ...DATA.stages.slice(1).map(({start}) => ({type: "line", yref: "paper", x0: start - 0.5,
    x1: start - 0.5, y0: 0, y1: 1, line: {width: 1, dash: "dot", color: color("--soft")}})),
];
const NAMES = () => DATA.stages.map(({name, start}) => ({text: name, x: start - 0.45, y: 1,
  yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false,
  font: {color: color("--soft"), size: 12}}));

function draw(place) {
  const {data, axis} = DATA.charts[place.dataset.chart];
  const lines = {gridcolor: color("--line"), linecolor: color("--line"),
    zerolinecolor: color("--line"), automargin: true};
  Plotly.react(place, data.map(styled), {
    font: {color: color("--ink"), family: "system-ui, sans-serif", size: 13},
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    margin: {l: 60, r: 20, t: 24, b: 50},
    showlegend: true,
    legend: innerWidth < 640 ? {orientation: "h", y: -0.25} : {},
    shapes: SHAPES(),
    annotations: NAMES(),
    hovermode: "closest",
    hoverlabel: {bgcolor: color("--panel"), font: {color: color("--ink")}},
    xaxis: {...lines, title: {text: "layer"}, dtick: data[0].x.length > 20 ? 4 : 1},
    yaxis: {...lines, title: {text: axis}},
  }, {responsive: true, displaylogo: false});
}

function redraw() {
  button.textContent = isDark() ? "Light" : "Dark";
  document.querySelectorAll("[data-chart]").forEach(draw);
}

button.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  redraw();
});
systemDark.addEventListener("change", redraw);
redraw();
