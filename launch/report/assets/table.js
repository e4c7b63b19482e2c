// A table that sorts by column, filters by text and shows one page at a time.

function table({ mount, label, columns, rows, text, detail, marked, page = 20, placeholder }) {
  let order = rows;
  let query = "";
  let sorted = null;
  let first = 0;
  const haystack = new Map();
  const input = el("input", {
    type: "search", placeholder, "aria-label": placeholder,
    oninput: () => { query = input.value.trim().toLowerCase(); first = 0; arrange(); },
  });
  const position = el("span", { "aria-live": "polite" });
  const back = el("button", { type: "button", "aria-label": "Previous page", onclick: () => turn(-page) }, "‹");
  const on = el("button", { type: "button", "aria-label": "Next page", onclick: () => turn(page) }, "›");
  const heads = columns.map((column) =>
    el("th", { scope: "col", class: column.number ? "number" : null },
      el("button", { type: "button", onclick: () => sort(column) }, column.label)));
  const body = el("tbody");
  const nothing = el("p", { class: "nothing", hidden: "" }, "Nothing matches.");
  mount.replaceChildren(
    el("div", { class: "table-head" }, input, el("div", { class: "pager" }, position, back, on)),
    el("table", { "aria-label": label }, el("thead", {}, el("tr", {}, heads)), body),
    nothing,
  );

  function turn(by) {
    first += by;
    show();
  }

  function sort(column) {
    const again = sorted && sorted.column === column;
    sorted = { column, up: again ? !sorted.up : !column.down };
    columns.forEach((other, place) => {
      if (other === column) heads[place].setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      else heads[place].removeAttribute("aria-sort");
    });
    first = 0;
    arrange();
  }

  function matches(row) {
    if (!haystack.has(row)) haystack.set(row, text(row).toLowerCase());
    return haystack.get(row).includes(query);
  }

  function arrange() {
    order = query ? rows.filter(matches) : rows.slice();
    if (sorted) {
      const keys = new Map(order.map((row) => [row, sorted.column.value(row)]));
      const sign = sorted.up ? 1 : -1;
      order.sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (x === y) return a - b;
        if (x === null || x === "") return 1;
        if (y === null || y === "") return -1;
        return typeof x === "string" ? sign * x.localeCompare(y) : sign * (x - y);
      });
    }
    show();
  }

  function show() {
    first = Math.max(0, Math.min(first, Math.floor((order.length - 1) / page) * page));
    const shown = order.slice(first, first + page);
    body.replaceChildren(...shown.map(line));
    nothing.hidden = order.length > 0;
    position.textContent = order.length
      ? `${count(first + 1)}–${count(first + shown.length)} of ${count(order.length)}` : "";
    back.disabled = first === 0;
    on.disabled = first + page >= order.length;
    back.hidden = on.hidden = order.length <= page;
  }

  function line(row) {
    const cells = columns.map((column) => {
      const content = column.cell(row);
      const kind = [column.number ? "number" : "", column.class || ""].join(" ").trim();
      const named = column.named && content !== "" ? column.label : null;
      return el("td", { class: kind || null, "data-label": named }, content);
    });
    const found = el("tr", { class: marked && marked(row) ? "row known" : "row", tabindex: "0" }, cells);
    const toggle = () => {
      const next = found.nextElementSibling;
      if (next && next.classList.contains("detail")) next.remove();
      else found.after(el("tr", { class: "detail" }, el("td", { colspan: columns.length }, detail(row))));
    };
    found.addEventListener("click", () => { if (String(getSelection()) === "") toggle(); });
    found.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(); });
    return found;
  }

  arrange();
}

function facts(entries) {
  const known = entries.filter(([, value]) => value !== "" && value !== null);
  return el("dl", {}, known.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function ranking() {
  const rows = F.kind.flatMap((kind, row) => (kind === 0 ? [row] : []));
  const several = data.rungs.length > 1;
  const figure = (name, digits) => (row) => {
    const value = F[name][row];
    if (value === null) return "–";
    return name === "loss" && value >= 1000 ? value.toExponential(1).replace("e+", "e") : value.toFixed(digits);
  };
  table({
    mount: byId("ranking"),
    label: "Functions, best first",
    placeholder: "Filter by formula, operator or name",
    rows,
    text: (row) => [F.formula[row], F.expression[row], F.name[row], F.baseline[row] ? "baseline" : ""].join(" "),
    marked: (row) => F.baseline[row],
    columns: [
      { label: "#", number: true, value: (row) => row, cell: (row) => count(F.rank[row]), class: "quiet rank" },
      { label: "f(x)", value: (row) => F.formula[row], cell: formula, class: "wide" },
      {
        label: "name", class: "name", value: (row) => F.name[row] || (F.baseline[row] ? "baseline" : ""),
        cell: (row) => F.baseline[row]
          ? el("span", {}, F.name[row], " ", el("span", { class: "baseline-mark" }, "▪", el("span", { class: "word" }, " baseline")))
          : F.name[row],
      },
      {
        label: "accuracy", number: true, down: true, value: (row) => F.reward[row],
        cell: (row) => el("span", {}, percent(F.reward[row]), F.spread[row] === null ? ""
          : el("span", { class: "spread" }, `± ${(100 * F.spread[row]).toFixed(2)}`)),
      },
      { label: "loss", number: true, named: true, value: (row) => F.loss[row], cell: figure("loss", 4), class: "quiet" },
      ...(several ? [{
        label: "steps", number: true, down: true, named: true, class: "quiet",
        value: (row) => F.rung[row], cell: (row) => count(data.rungs[F.rung[row] - 1]),
      }] : []),
      { label: "seconds", number: true, named: true, value: (row) => F.seconds[row], cell: figure("seconds", 1), class: "quiet" },
    ],
    detail: (row) => facts([
      ["text", el("code", {}, F.expression[row])],
      ["formula", F.formula[row]],
      ["trained", `${many(F.trials[row], "trial")}, up to rung ${F.rung[row]} of ${data.rungs.length}`],
      ["spellings", F.aliases[row] ? `${many(F.aliases[row], "other spelling")} proposed` : ""],
    ]),
  });
  const spread = F.spread.some((value) => value !== null)
    ? " ± is the standard deviation over seeds." : "";
  const noise = data.error === null ? ""
    : ` One standard error of an accuracy here is about ${(100 * data.error).toFixed(2)} points: smaller differences may be chance.`;
  const missing = data.counts.ranked - rows.length;
  const listed = missing ? ` The best ${count(rows.length)} of ${count(data.counts.ranked)} are listed.` : "";
  byId("found-note").textContent =
    `Ranked by validation accuracy${several ? " on the highest rung reached" : ""}, then by loss.${spread}${noise} Seconds are all that was spent on a function.${listed}`;
}

const WHY = {
  invalid: "refused before training: not finite somewhere on [−5, 5]",
  constant: "refused before training: it does not change with x",
  equal: "the same function as another, in another spelling: its trial is shared",
  diverged: "training broke off because the loss was not finite",
  failed: "the machinery broke, not the function",
  untrained: "waiting for its first trial to finish",
};

function rest() {
  const kinds = ["diverged", "failed", "invalid", "constant", "equal", "untrained"]
    .filter((kind) => data.counts[kind]);
  if (!kinds.length) {
    byId("rest").hidden = true;
    return;
  }
  const why = (row) => {
    const root = F.root[row];
    if (KIND[F.kind[row]] !== "equal" || root < 0) return data.reason_texts[F.reason[row]];
    return F.formula[row] === F.formula[root]
      ? `${F.expression[row]} is ${F.expression[root]}` : `equal to ${F.formula[root]}`;
  };
  const show = (kind) => {
    const listed = F.kind.flatMap((other, row) => (KIND[other] === kind ? [row] : []));
    const missing = data.counts[kind] - listed.length;
    byId("rest-note").textContent = `${kind[0].toUpperCase()}${kind.slice(1)}: ${WHY[kind]}.`
      + (missing ? ` ${count(listed.length)} of ${count(data.counts[kind])} are listed.` : "");
    byId("rest-reasons").replaceChildren(...(data.reasons[kind] || []).map(([reason, number]) =>
      el("li", {}, el("span", { class: "count" }, count(number)), el("span", {}, reason))));
    table({
      mount: byId("rest-table"),
      label: kind,
      placeholder: "Filter by formula, operator or reason",
      rows: listed,
      text: (row) => [F.formula[row], F.expression[row], why(row)].join(" "),
      columns: [
        { label: "f(x)", value: (row) => F.formula[row], cell: formula, class: "wide" },
        { label: "why", value: why, cell: why, class: "quiet" },
      ],
      detail: (row) => facts([["text", el("code", {}, F.expression[row])], ["why", why(row)]]),
    });
  };
  byId("rest-controls").append(
    segments(kinds.map((kind) => [kind, kind, data.counts[kind]]), kinds[0], show));
  show(kinds[0]);
}
