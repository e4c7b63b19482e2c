"use strict";
// Elements, numbers and formulas. Text reaches the page as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const F = data.functions;
const KIND = ["ranked", "diverged", "failed", "untrained", "invalid", "constant", "equal"];
const MATHML = "http://www.w3.org/1998/Math/MathML";
const SVG = "http://www.w3.org/2000/svg";
const LEAVES = new Set(["mi", "mn", "mo", "mtext"]);
const TAGS = new Set([
  ...LEAVES, "mrow", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "mover",
  "munder", "munderover",
]);

function byId(id) {
  return document.getElementById(id);
}

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return element;
}

function el(tag, attributes, ...children) {
  return put(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return put(document.createElementNS(SVG, tag), attributes, children);
}

function percent(share, digits = 2) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`;
}

function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function many(number, one, several = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : several}`;
}

// Plotly reads some markup in its texts.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function mathNode(number) {
  const [tag, ...rest] = data.nodes[number];
  if (!TAGS.has(tag)) return document.createTextNode("");
  const element = document.createElementNS(MATHML, tag);
  if (tag === "mspace") element.setAttribute("width", rest[0] === "thin" ? "0.1667em" : "1em");
  else if (LEAVES.has(tag)) {
    element.textContent = rest[0];
    if (tag === "mi" && [...rest[0]].length === 1) element.setAttribute("class", "symbol");
  } else {
    rest.forEach((child, place) => element.append(inRow(child, place ? rest[place - 1] : null)));
  }
  return element;
}

const AFTER_OPERATOR = "([{|,+−-·⋅×=";

// A minus sign in front of an operand is no minus between two.
function inRow(number, before) {
  const node = mathNode(number);
  const [tag, text] = data.nodes[number];
  const first = before === null
    || (data.nodes[before][0] === "mo" && AFTER_OPERATOR.includes(data.nodes[before][1]));
  if (tag === "mo" && "−-".includes(text) && first) node.setAttribute("form", "prefix");
  return node;
}

// In pieces between which a line may break: before an operator of the outermost row.
function typeset(number) {
  const [, ...children] = data.nodes[number];
  const found = el("span", { class: "formula" });
  let piece = null;
  children.forEach((child, place) => {
    const [tag, text] = data.nodes[child];
    const node = inRow(child, place ? children[place - 1] : null);
    const between = tag === "mo" && "+−-·⋅×=".includes(text) && !node.hasAttribute("form");
    if (piece === null || between) {
      if (between) node.setAttribute("form", "infix");
      piece = document.createElementNS(MATHML, "math");
      found.append(piece);
    }
    piece.append(node);
  });
  return found;
}

function formula(row) {
  return F.math[row] ? typeset(F.math[row]) : el("span", { class: "formula" }, F.formula[row]);
}

// A name people know, or the formula as text.
function called(row) {
  return F.name[row] || F.formula[row];
}

function shortened(text, most = 60) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function segments(choices, chosen, choose) {
  const buttons = choices.map(([key, label, number]) =>
    el("button", { type: "button", "aria-pressed": String(key === chosen), onclick: () => pick(key) },
      label, number === undefined ? "" : el("span", { class: "count" }, count(number))));
  function pick(key) {
    choices.forEach(([other], place) => buttons[place].setAttribute("aria-pressed", String(other === key)));
    choose(key);
  }
  return el("div", { class: "segments" }, buttons);
}

function selector(label, choices, choose) {
  const list = el("select", { onchange: () => choose(choices[list.selectedIndex][0]) },
    choices.map(([, text]) => el("option", {}, text)));
  return el("label", {}, label, list);
}
