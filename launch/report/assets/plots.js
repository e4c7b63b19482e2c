// What all plots share: colours of the page, quiet axes, and drawing anew when the colours change.

const drawings = new Map();
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 700px)");
const CONFIG = { displayModeBar: false, responsive: true, showTips: false };

function colours() {
  const style = getComputedStyle(document.documentElement);
  const found = {};
  for (const name of ["paper", "ink", "muted", "faint", "line", "accent", "low"]) {
    found[name] = style.getPropertyValue(`--${name}`).trim();
  }
  return found;
}

function translucent(hex, opacity) {
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${parts.join(", ")}, ${opacity})`;
}

function scale(c) {
  return [[0, c.low], [1, c.accent]];
}

function axis(c, title, extra) {
  return {
    title: { text: title, font: { size: 12, color: c.muted }, standoff: 8 },
    color: c.muted, gridcolor: c.line, linecolor: c.line, zeroline: false, tickfont: { size: 11 },
    fixedrange: true, ticks: "", automargin: true, ...extra,
  };
}

function accuracyAxis(c, title, extra) {
  return axis(c, title, { tickformat: ".0%", ...extra });
}

function layout(c, extra) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: c.ink },
    margin: { l: 52, r: 14, t: 12, b: 44 },
    hovermode: "closest", dragmode: false, showlegend: false,
    hoverlabel: { bgcolor: c.paper, bordercolor: c.faint, font: { color: c.ink, size: 12 }, align: "left" },
    ...extra,
  };
}

// `make` gives traces and layout for the colours of the moment.
function draw(id, make) {
  drawings.set(id, make);
  const [traces, frame] = make(colours());
  return Plotly.react(byId(id), traces, frame, CONFIG);
}

function redraw() {
  for (const [id, make] of drawings) {
    const [traces, frame] = make(colours());
    Plotly.react(byId(id), traces, frame, CONFIG);
  }
}

dark.addEventListener("change", redraw);
narrow.addEventListener("change", redraw);

// A short line as it is drawn in a plot, for a legend.
function sample(stroke, width, dash) {
  return svg("svg", { width: 26, height: 10, "aria-hidden": "true" },
    svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, stroke, "stroke-width": width, "stroke-dasharray": dash }));
}
