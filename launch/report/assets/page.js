// Puts the page together.

function lead() {
  const ranked = F.kind.flatMap((kind, row) => (kind === 0 ? [row] : []));
  const own = ranked.find((row) => !F.baseline[row]);
  const known = ranked.find((row) => F.baseline[row]);
  byId("kicker").textContent = `actsearch · ${data.finished ? "finished run" : "run not finished yet"} · ${data.made}`;
  byId("title").textContent = data.title;
  const said = [
    `${many(data.counts.ranked, "function was", "functions were")} trained with a result, from ${many(data.proposals, "proposal")}, in ${data.worked} of work. `,
  ];
  if (own !== undefined) said.push("The best is ", formula(own), F.name[own] ? ` (${F.name[own]})` : "", " at ", el("strong", {}, percent(F.reward[own])));
  if (own !== undefined && known !== undefined) {
    said.push("; the best baseline, ", F.name[known] || formula(known), ", reached ", el("strong", {}, percent(F.reward[known])));
  }
  if (own !== undefined) said.push(".");
  if (data.ending) said.push(` Ended early: ${data.ending}.`);
  byId("lead").append(...said);
  byId("brief").textContent = data.brief;
  byId("footer").textContent = `Written by actsearch report on ${data.made}. Accuracies are of the validation split; test data were not opened.`;
}

function asked() {
  byId("facts").append(...data.facts.map(([title, rows]) =>
    el("div", {}, el("h3", {}, title), facts(rows))));
  byId("history").textContent = data.history;
}

function contents() {
  const titles = { found: "Ranking", shapes: "Shapes", course: "Course", operators: "Operators", beta: "Learned inside", rest: "No result", asked: "What was searched" };
  byId("contents").append(...Object.entries(titles)
    .filter(([id]) => !byId(id).hidden)
    .map(([id, title]) => el("a", { href: `#${id}` }, title)));
}

lead();
ranking();
shapes();
course();
strategy();
operators();
learned();
rest();
asked();
contents();
document.documentElement.dataset.ready = "";
