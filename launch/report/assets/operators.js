// Mean reward by operator, and by two operators that stand in one function.

const FEW = data.few;

function operators() {
  const { operators: all, pairs } = data.use;
  if (!all.some((entry) => entry[2])) {
    byId("operators").hidden = true;
    return;
  }
  const means = all.filter((entry) => entry[2]).map((entry) => entry[3]);
  const ends = all.filter((entry) => entry[2]).flatMap((entry) => [entry[4], entry[5]]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = 0.05 * (high - low || 0.1);
  byId("operators-note").textContent =
    `Mean validation accuracy${data.rungs.length > 1 ? " on the first rung" : ""} of the functions proposed with an operator in them; those that diverged are left out. The line covers the middle half of them. Right: how many functions. Fewer than ${FEW} is a hollow dot.`;

  const plot = (id, kind) => {
    const shown = all.filter((entry) => entry[1] === kind && entry[2] + entry[6]).reverse();
    const known = shown.filter((entry) => entry[2]);
    const name = (entry) => plain(shortened(entry[0], 18));
    draw(id, (c) => [[
      {
        x: known.flatMap((entry) => [entry[4], entry[5], null]),
        y: known.flatMap((entry) => [name(entry), name(entry), null]),
        mode: "lines", line: { color: translucent(c.accent, 0.3), width: 4 }, hoverinfo: "skip",
      },
      {
        x: known.map((entry) => entry[3]), y: known.map(name), mode: "markers", hoverinfo: "text",
        marker: {
          size: 9, color: known.map((entry) => (entry[2] < FEW ? c.paper : c.accent)),
          line: { color: c.accent, width: 1.6 },
        },
        text: known.map((entry) => `${plain(entry[0])}: ${percent(entry[3])}<br>${many(entry[2], "function")} with a result, ${entry[6]} without<br>middle half ${percent(entry[4], 1)} to ${percent(entry[5], 1)}`),
      },
    ], layout(c, {
      height: 70 + 22 * shown.length,
      margin: { l: 76, r: 40, t: 6, b: 44 },
      xaxis: accuracyAxis(c, "validation accuracy", { range: [low - room, high + room] }),
      yaxis: axis(c, "", { type: "category", showgrid: false, dtick: 1, categoryorder: "array", categoryarray: shown.map(name), range: [-0.6, shown.length - 0.4] }),
      annotations: shown.map((entry) => ({
        xref: "paper", x: 1, xanchor: "left", xshift: 8, y: name(entry), showarrow: false,
        text: entry[2] ? count(entry[2]) : "–", font: { size: 11, color: c.muted },
      })),
    })]);
  };
  plot("unary-plot", "unary");
  plot("binary-plot", "binary");

  byId("pairs-note").textContent =
    `Mean accuracy of the functions in which both stand. A small square is a mean of fewer than ${FEW} functions, no square means that there is none.`;
  const known = pairs.filter((pair) => pair[2]);
  const views = [["unary", "binary"], ["unary", "unary"], ["binary", "binary"]].filter(([a, b]) =>
    known.some((pair) => [all[pair[0]][1], all[pair[1]][1]].sort().join() === [a, b].sort().join()));
  if (!views.length) return;
  const bounds = known.filter((pair) => pair[2] >= FEW).map((pair) => pair[3]);
  const [least, most] = bounds.length ? [Math.min(...bounds), Math.max(...bounds)] : [Math.min(...means), Math.max(...means)];

  const show = (view) => {
    const box = byId("pair-plot");
    const wide = all.filter((entry) => entry[1] === view[1]).length;
    box.style.maxWidth = `${170 + 46 * Math.max(wide, 8)}px`;
    draw("pair-plot", (c) => pairPlot(c, view));
    Plotly.Plots.resize(box);
  };

  function pairPlot(c, [rowKind, columnKind]) {
    const cells = [];
    for (const [a, b, n, mean, without] of known) {
      for (const [row, column] of [[a, b], [b, a]]) {
        if (all[row][1] === rowKind && all[column][1] === columnKind) cells.push({ row, column, n, mean, without });
      }
    }
    const used = (key) => [...new Set(cells.map((cell) => cell[key]))].sort((a, b) => a - b);
    const rows = used("row").reverse();
    const columns = used("column");
    const size = narrow.matches ? 14 : 21;
    const note = (cell) => `${plain(all[cell.row][0])} and ${plain(all[cell.column][0])}: ${percent(cell.mean)}<br>${many(cell.n, "function")} with a result, ${cell.without} without`;
    const grid = rows.map(() => columns.map(() => null));
    const texts = rows.map(() => columns.map(() => ""));
    for (const cell of cells.filter((entry) => entry.n >= FEW)) {
      grid[rows.indexOf(cell.row)][columns.indexOf(cell.column)] = cell.mean;
      texts[rows.indexOf(cell.row)][columns.indexOf(cell.column)] = note(cell);
    }
    const few = cells.filter((entry) => entry.n < FEW);
    const names = (list) => list.map((place) => plain(shortened(all[place][0], 14)));
    return [[
      {
        type: "heatmap", z: grid, text: texts, hoverinfo: "text", hoverongaps: false, xgap: 1, ygap: 1,
        colorscale: scale(c), zmin: least, zmax: most,
        colorbar: { thickness: 8, outlinewidth: 0, tickformat: ".0%", tickfont: { size: 11, color: c.muted }, len: Math.min(1, 260 / (size * rows.length)), x: 1.01 },
      },
      {
        x: few.map((cell) => columns.indexOf(cell.column)), y: few.map((cell) => rows.indexOf(cell.row)),
        mode: "markers", hoverinfo: "text", text: few.map(note),
        marker: { symbol: "square", size: size * 0.38, color: few.map((cell) => cell.mean), colorscale: scale(c), cmin: least, cmax: most, line: { color: c.faint, width: 0.5 } },
      },
    ], layout(c, {
      height: 110 + size * rows.length,
      margin: { l: 70, r: 20, t: 60, b: 12 },
      xaxis: axis(c, "", { side: "top", tickvals: columns.map((_, at) => at), ticktext: names(columns), tickangle: -60, showgrid: false, range: [-0.5, columns.length - 0.5] }),
      yaxis: axis(c, "", { tickvals: rows.map((_, at) => at), ticktext: names(rows), showgrid: false, range: [-0.5, rows.length - 0.5] }),
    })];
  }
  byId("pair-controls").append(segments(
    views.map((view) => [view, `${view[0]} with ${view[1]}`]), views[0], show));
  show(views[0]);
}
