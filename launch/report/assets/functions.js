// f and f′ of the best functions and of the baselines, one against another.

const RANGE = [-2.6, 5];
const SLOPES = [-1.8, 2.6];

function spark(curve) {
  const [width, height] = [140, 84];
  const x = (value) => ((value + 5) / 10) * width;
  const y = (value) => height - ((value - RANGE[0]) / (RANGE[1] - RANGE[0])) * height;
  const path = (values) => {
    let text = "";
    let pen = false;
    values.forEach((value, place) => {
      if (value === null || value < RANGE[0] - 3 || value > RANGE[1] + 3) pen = false;
      else {
        text += `${pen ? "L" : "M"}${x(data.x[place]).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = true;
      }
    });
    return text;
  };
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("path", { class: "spark-axis", d: `M0 ${y(0)}H${width}M${x(0)} 0V${height}` }),
    svg("path", { class: "spark-slope", d: path(curve.slope) }),
    svg("path", { class: "spark-f", d: path(curve.f) }));
}

function shapes() {
  const curves = data.curves;
  if (!curves.length) {
    byId("shapes").hidden = true;
    return;
  }
  const known = (place) => F.baseline[curves[place].row] === 1;
  const places = curves.map((_, place) => place);
  const rivals = places.filter(known);
  const own = places.filter((place) => !known(place));
  const chosen = { own: own[0] ?? null, known: rivals[0] ?? null };
  let pointed = null;

  const cards = places.map((place) => {
    const row = curves[place].row;
    return el("button", {
      type: "button", class: known(place) ? "card known" : "card", title: F.expression[row],
      onmouseenter: () => point(place), onmouseleave: () => point(null),
      onfocus: () => point(place), onblur: () => point(null),
      onclick: () => { chosen[known(place) ? "known" : "own"] = place; update(); },
    },
    spark(curves[place]), formula(row),
    el("span", { class: "figures" },
      el("span", {}, `${F.rank[row]}. ${percent(F.reward[row], 1)}`),
      el("span", {}, F.name[row] || (known(place) ? "baseline" : ""))));
  });
  byId("cards").replaceChildren(...cards);

  // Pale lines of all, then the baseline, the chosen one and the one that is pointed at.
  function drawn() {
    return [chosen.known, chosen.own, pointed];
  }

  function traces(c, part) {
    const label = (place) => `${F.rank[curves[place].row]}. ${plain(shortened(called(curves[place].row)))}`;
    const pale = places.map((place) => ({
      x: data.x, y: curves[place][part], mode: "lines", line: { color: c.faint, width: 1 },
      opacity: 0.55, hoverinfo: "text", text: data.x.map(() => label(place)), hoverlabel: { namelength: -1 },
    }));
    const strong = drawn().map((place, at) => ({
      x: data.x, y: place === null ? [] : curves[place][part], mode: "lines", hoverinfo: "skip",
      line: {
        color: at === 0 ? c.ink : c.accent,
        width: at === 2 ? 3 : 2.4,
        dash: at === 0 || (at === 2 && place !== null && known(place)) ? "dash" : "solid",
      },
      opacity: at < 2 && pointed !== null && pointed !== place ? 0.45 : 1,
    }));
    return [...pale, ...strong];
  }

  function frame(c, title, range) {
    const cross = { zeroline: true, zerolinecolor: c.faint, zerolinewidth: 1 };
    return layout(c, {
      height: 320,
      xaxis: axis(c, "x", { range: [-5, 5], ...cross }),
      yaxis: axis(c, title, { range, ...cross }),
    });
  }

  function legend() {
    const c = colours();
    const entry = (place, stroke, width, dash) => place === null ? "" : el("span", { class: "entry" },
      sample(stroke, width, dash), formula(curves[place].row), F.name[curves[place].row],
      el("span", {}, percent(F.reward[curves[place].row])));
    const other = pointed !== null && known(pointed);
    byId("shape-legend").replaceChildren(...[
      entry(pointed === null || other ? chosen.own : pointed, c.accent, 2.4, null),
      entry(other ? pointed : chosen.known, other && pointed !== chosen.known ? c.accent : c.ink, 2.4, "5 3"),
    ].filter(Boolean));
  }

  function update() {
    cards.forEach((card, place) =>
      card.setAttribute("aria-pressed", String(place === chosen.own || place === chosen.known)));
    legend();
    draw("shape-f", (c) => [traces(c, "f"), frame(c, "f(x)", RANGE)]);
    draw("shape-slope", (c) => [traces(c, "slope"), frame(c, "f′(x)", SLOPES)]);
  }

  function point(place) {
    if (place === pointed) return;
    pointed = place;
    update();
  }

  update();
  for (const id of ["shape-f", "shape-slope"]) {
    byId(id).on("plotly_hover", (event) => {
      const at = event.points[0].curveNumber;
      if (at < places.length) point(at);
    });
    byId(id).on("plotly_unhover", () => point(null));
  }
  dark.addEventListener("change", legend);
}

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];

function learned() {
  if (!data.beta.length) {
    byId("beta").hidden = true;
    return;
  }
  const show = (entry) => {
    const shades = (c) => [c.accent, c.ink, c.muted, c.faint];
    const shade = (c, place) => shades(c)[place % 4];
    draw("beta-plot", (c) => [
      entry.lines.flatMap((line, place) => [
        {
          x: [...line.layers, ...line.layers.slice().reverse()],
          y: [...line.max, ...line.min.slice().reverse()],
          fill: "toself", mode: "lines", line: { width: 0 }, hoverinfo: "skip",
          fillcolor: translucent(shade(c, place), 0.1),
        },
        {
          x: line.layers, y: line.mean, mode: "lines+markers", hoverinfo: "text",
          text: line.layers.map((layer, at) =>
            `${plain(line.label)}, ${plain(layer)}<br>${line.mean[at]} ± ${line.std[at]}, from ${line.min[at]} to ${line.max[at]}`),
          line: { color: shade(c, place), width: 2 },
          marker: { color: shade(c, place), size: 7, symbol: SYMBOLS[place % 6] },
          error_y: { type: "data", array: line.std, color: translucent(shade(c, place), 0.6), thickness: 1.2, width: 0 },
        },
      ]),
      layout(c, {
        height: 340,
        margin: { l: 52, r: 14, t: 12, b: 80 },
        xaxis: axis(c, "layer", { type: "category", showgrid: false, tickangle: -40 }),
        yaxis: axis(c, "value"),
      }),
    ]);
    const c = colours();
    byId("beta-legend").replaceChildren(...entry.lines.map((line, place) =>
      el("span", { class: "entry" }, sample(shade(c, place), 2.4, null), line.label)));
  };
  byId("beta-controls").append(selector("Function", data.beta.map((entry) =>
    [entry, shortened(`${F.rank[entry.row]}. ${F.name[entry.row] ? `${F.name[entry.row]}: ` : ""}${F.formula[entry.row]}`, 70)]), show));
  show(data.beta[0]);
}
