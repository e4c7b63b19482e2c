// Rewards in the order of trials, best so far, and what the strategy told of itself.

const DASHES = ["dash", "dot", "dashdot", "longdash"];
const DASH_SAMPLES = { dash: "6 3", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 3" };

function label(row) {
  return row === null ? "" : `${F.rank[row]}. ${plain(shortened(called(row)))}`;
}

function course() {
  const rungs = data.course;
  if (!rungs.length) {
    byId("course").hidden = true;
    return;
  }
  let view = "all";
  const rewards = rungs.flatMap((rung) => rung.points.map((point) => point[1]));
  const others = data.against.flatMap((other) => other.best.map((point) => point[1]));
  const bars = rungs.flatMap((rung) => rung.baselines.map((point) => point[1]));
  const every = [...rewards, ...others, ...bars].sort((a, b) => a - b);
  const middle = rewards.length ? rewards.slice().sort((a, b) => a - b)[Math.floor(rewards.length / 2)] : 0;

  function range() {
    if (!every.length) return [0, 1];
    const low = view === "all" ? every[0] : Math.min(middle, ...(bars.length ? bars : [middle]));
    const high = every[every.length - 1];
    const room = 0.07 * (high - low || 0.1);
    return [low - room, high + room];
  }

  function make(c) {
    const [low, high] = range();
    const traces = [];
    const marks = [];
    const notes = [];
    const whole = Math.max(...rungs.map((rung) => rung.end));
    let level = 0; // labels of rungs too narrow for them stand above each other
    for (const [place, rung] of rungs.entries()) {
      const shown = rung.points.filter((point) => point[1] >= low);
      if (rung.baselines.length) {
        const [top, bottom] = rung.baselines;
        const span = { x0: rung.start || 1, x1: Math.max(rung.end, rung.start + 1), layer: "below" };
        marks.push({ type: "rect", ...span, y0: Math.max(bottom[1], low), y1: top[1], line: { width: 0 }, fillcolor: translucent(c.muted, 0.13) });
        marks.push({ type: "line", ...span, y0: top[1], y1: top[1], line: { color: c.muted, width: 1, dash: "dot" } });
      }
      if (rung.rung > 0 && rung.start) {
        marks.push({ type: "line", x0: rung.start - 0.5, x1: rung.start - 0.5, yref: "paper", y0: 0, y1: 1, line: { color: c.line, width: 1 } });
      }
      if (rungs.length > 1) {
        const room = narrow.matches ? 0.25 : 0.12;
        level = place && rung.start - rungs[place - 1].start < room * whole ? level + 1 : 0;
        notes.push({
          x: rung.start, y: 0, yref: "paper", yshift: 3 + 14 * level, yanchor: "bottom", showarrow: false,
          xanchor: rung.start > (1 - room) * whole ? "right" : "left",
          text: `${count(rung.steps)} steps`, font: { size: 11, color: c.muted },
        });
      }
      traces.push({
        x: shown.map((point) => point[0]), y: shown.map((point) => point[1]), mode: "markers",
        marker: { color: c.accent, size: shown.length > 600 ? 4 : 6, opacity: shown.length > 600 ? 0.28 : 0.42 },
        hoverinfo: "text", text: shown.map((point) => `${label(point[2])}<br>${percent(point[1])}, trial ${count(point[0])}`),
      });
      traces.push({
        x: rung.lost, y: rung.lost.map(() => low), mode: "markers", cliponaxis: false,
        marker: { color: c.muted, size: 7, symbol: "line-ns-open", line: { width: 1 } },
        hoverinfo: "text", text: rung.lost.map((x) => `trial ${count(x)}: no result`),
      });
    }
    data.against.forEach((other, place) => {
      traces.push({
        x: [...other.best.map((point) => point[0]), other.end],
        y: [...other.best.map((point) => point[1]), (other.best[other.best.length - 1] || [0, null])[1]],
        mode: "lines", line: { color: c.ink, width: 1.6, shape: "hv", dash: DASHES[place % 4] }, hoverinfo: "text",
        text: [...other.best, other.best[other.best.length - 1] || [0, 0, ""]].map((point) =>
          `${plain(other.title)}, best so far<br>${plain(shortened(point[2]))}<br>${percent(point[1])}`),
      });
    });
    for (const rung of rungs) {
      const best = rung.best;
      if (!best.length) continue;
      const last = best[best.length - 1];
      traces.push({
        x: [...best.map((point) => point[0]), rung.end], y: [...best.map((point) => point[1]), last[1]],
        mode: "lines", line: { color: c.accent, width: 2.4, shape: "hv" }, hoverinfo: "text",
        text: [...best, last].map((point) => `best so far<br>${label(point[2])}<br>${percent(point[1])}`),
      });
    }
    return [traces, layout(c, {
      height: narrow.matches ? 340 : 400,
      shapes: marks, annotations: notes,
      xaxis: axis(c, "trials, baselines not counted", { showgrid: false, rangemode: "tozero" }),
      yaxis: accuracyAxis(c, "validation accuracy", { range: [low, high] }),
    })];
  }

  byId("course-controls").append(segments([["all", "all"], ["top", "upper half"]], view, (key) => {
    view = key;
    draw("course-plot", make);
  }));
  draw("course-plot", make);

  const top = (rungs.find((rung) => rung.baselines.length) || { baselines: [null] }).baselines[0];
  const best = top ? `${called(top[2])}, ${percent(top[1])}` : "";

  function legend() {
    const c = colours();
    const entry = (mark, ...texts) => el("span", { class: "entry" }, mark, el("span", {}, ...texts));
    byId("course-legend").replaceChildren(
      entry(svg("svg", { width: 12, height: 12, "aria-hidden": "true" },
        svg("circle", { cx: 6, cy: 6, r: 3.5, fill: c.accent, "fill-opacity": 0.5 })), "a function"),
      entry(sample(c.accent, 2.4, null), "best so far"),
      ...(bars.length ? [entry(svg("svg", { width: 26, height: 12, "aria-hidden": "true" },
        svg("rect", { width: 26, height: 12, fill: c.muted, "fill-opacity": 0.2 })), `range of the baselines, up to ${best}`)] : []),
      ...(rungs.some((rung) => rung.lost_total) ? [entry(svg("svg", { width: 8, height: 12, "aria-hidden": "true" },
        svg("line", { x1: 4, x2: 4, y1: 1, y2: 11, stroke: c.muted })), "no result")] : []),
      ...data.against.map((other, place) => entry(sample(c.ink, 1.6, DASH_SAMPLES[DASHES[place % 4]]),
        `best so far of ${other.title}`)));
  }
  legend();
  dark.addEventListener("change", legend);

  const total = rungs.reduce((sum, rung) => sum + rung.total, 0);
  const shown = rungs.reduce((sum, rung) => sum + rung.points.length, 0);
  const thin = shown < total ? ` ${count(shown)} of ${count(total)} points are drawn, and every record among them.` : "";
  byId("course-note").textContent = `Each point is a function, the line the best so far.${thin}`;
  byId("course-others").append(...data.against.map((other) => el("p", { class: "note" },
    el("strong", {}, other.title), " ",
    other.comparable ? "trained its children the same way. " : "trained its children otherwise, so its accuracies do not compare. ",
    other.unlike.length ? `There, and here: ${other.unlike.map(([name, there, here]) => `${name.replace(/_/g, " ")} ${there} (${here})`).join(", ")}.` : "It asked for the same.")));
}

const SERIES = {
  entropy: ["entropy of the policy", "nats"],
  mean_reward: ["mean reward", "accuracy"],
  baseline: ["moving average of rewards", "accuracy"],
  best_reward: ["best reward alive", "accuracy"],
  population: ["population", "members"],
};

function strategy() {
  const told = data.strategy;
  const names = Object.keys(told.series).filter((name) => name !== "visited"); // a straight line
  if (!names.length) {
    byId("strategy").hidden = true;
    return;
  }
  byId("strategy-title").textContent = `The strategy, update by update: ${told.name}`;
  const rewards = names.filter((name) => ["mean_reward", "baseline", "best_reward"].includes(name));
  const groups = [...names.filter((name) => !rewards.includes(name)).map((name) => [name]), ...(rewards.length ? [rewards] : [])];
  const styles = (c) => [{ color: c.accent, width: 2 }, { color: c.ink, width: 1.4, dash: "dash" }, { color: c.muted, width: 1.4, dash: "dot" }];
  groups.forEach((group, number) => {
    const id = `series-${number}`;
    const title = group.map((name) => (SERIES[name] || [name])[0]);
    const c = colours();
    byId("series").append(el("figure", {},
      el("figcaption", {}, el("span", { class: "legend" }, title.map((text, place) => el("span", { class: "entry" },
        sample(place ? "currentColor" : c.accent, styles(c)[place % 3].width, [null, "6 3", "2 3"][place % 3]), text)))),
      el("div", { class: "plot", id })));
    const unit = (SERIES[group[0]] || [null, group[0]])[1];
    draw(id, (shades) => [
      group.map((name, place) => ({
        x: told.t, y: told.series[name], mode: "lines", connectgaps: true, line: styles(shades)[place % 3],
        hoverinfo: "text", text: told.series[name].map((value, at) =>
          `${(SERIES[name] || [plain(name)])[0]} ${unit === "accuracy" ? percent(value) : value}<br>before proposal ${count(told.t[at])}`),
      })),
      layout(shades, {
        height: 260,
        xaxis: axis(shades, "proposals", { showgrid: false }),
        yaxis: unit === "accuracy" ? accuracyAxis(shades, "", { tickformat: ".1%" }) : axis(shades, unit),
      }),
    ]);
  });
  decisions();
}

function decisions() {
  const { at, decisions: all } = data.strategy;
  if (!all.length) return;
  const kinds = ["unary", "binary", "input"];
  const views = [];
  for (const kind of kinds) {
    const same = all.filter((decision) => decision.kind === kind
      && decision.choices.join() === all.find((other) => other.kind === kind).choices.join());
    if (same.length > 1 && kind !== "input") {
      views.push([{
        choices: same[0].choices,
        p: same[0].choices.map((_, choice) => at.map((_, t) =>
          same.reduce((sum, decision) => sum + decision.p[choice][t], 0) / same.length)),
      }, `${kind} operators, all ${same.length} decisions`]);
    }
  }
  views.push(...all.map((decision) => [decision, decision.label]));
  byId("strategy-note").textContent =
    "Below: how likely each operator is to be chosen, from update to update; the last column decides the order.";
  const show = (view) => draw("decision-plot", (c) => {
    const last = (choice) => view.p[choice][at.length - 1];
    const order = view.choices.map((_, choice) => choice).sort((a, b) => last(a) - last(b));
    const even = 1 / view.choices.length;
    return [[{
      type: "heatmap", x: at, y: order.map((choice) => plain(view.choices[choice])), z: order.map((choice) => view.p[choice]),
      colorscale: scale(c), xgap: at.length > 40 ? 0 : 1, ygap: 1, hoverinfo: "text",
      text: order.map((choice) => view.p[choice].map((p, t) =>
        `${plain(view.choices[choice])} ${percent(p, 1)}<br>before proposal ${count(at[t])}; even would be ${percent(even, 1)}`)),
      colorbar: { thickness: 8, outlinewidth: 0, tickformat: ".1%", nticks: 6, tickfont: { size: 11, color: c.muted }, len: 0.9, x: 1.01 },
    }], layout(c, {
      height: 90 + 19 * view.choices.length,
      xaxis: axis(c, "proposals", { showgrid: false }),
      yaxis: axis(c, "", { type: "category", showgrid: false, dtick: 1 }),
    })];
  });
  byId("decision-controls").append(selector("Probabilities of", views, show));
  show(views[0][0]);
}
