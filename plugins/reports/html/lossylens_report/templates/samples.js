"use strict";
// Works on DATA, which the page defines, and on pieces beside the page, which are loaded when
// they are needed.  A page that was opened from disk can load scripts, and nothing else.

const find = (selector, within = document) => within.querySelector(selector);
const role = (name) => find(`[data-role="${name}"]`);
const unique = (values) => [...new Set(values)];
const list = find("#list");
const rows = find("#rows");
const ROW = 52;  // pixels

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Pieces

const asked = new Map();
const arrived = new Map();

globalThis.LOSSYLENS = (name, value) => arrived.get(name)(value);

function piece(name) {
  const key = `${state.set}/${name}`;
  if (!asked.has(key)) {
    asked.set(key, new Promise((resolve, reject) => {
      arrived.set(key, resolve);
      const script = element("script", {src: `samples/${key}.js`});
      script.onload = () => script.remove();
      script.onerror = () => reject(new Error(`samples/${key}.js cannot be read: keep that folder beside this page`));
      document.head.append(script);
    }));
  }
  return asked.get(key);
}

// What is shown: in the address, so that it can be passed on.

// Without pictures, all questions.  Beside a model is its adapted twin, unless another is chosen or "none".
const DEFAULTS = {set: 0, model: "", beside: "", codec: "", level: "", only: "", topic: "", low: "", high: "",
  pictured: DATA.pictured ? "1" : "0", question: 0, view: "slider"};
const state = {...DEFAULTS};

/** What the address leaves out is as it was at first. */
function readAddress() {
  Object.assign(state, DEFAULTS);
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of given) if (name in state) state[name] = value;
  state.set = Math.min(Math.max(Number.parseInt(state.set, 10) || 0, 0), DATA.sets.length - 1);
  state.question = Math.max(Number.parseInt(state.question, 10) || 0, 0);
}

function writeAddress() {
  const kept = Object.entries(state).filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

const set = () => DATA.sets[state.set];
const besides = () => state.beside === "none" ? "" : state.beside;
const places = (test) => set().cells.map((cell, place) => ({...cell, place})).filter(test);
const levelsOf = (model) => places((cell) => cell.model === model && !cell.base && cell.codec === state.codec);
const baseOf = (model) => places((cell) => cell.model === model && cell.base)[0];

function fill(name, values, chosen) {
  const select = role(name);
  select.replaceChildren(...values.map(([value, text]) => element("option", {value, textContent: text})));
  select.value = chosen;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  state[name] = select.value;
  select.parentElement.hidden = values.length < 2;
}

const same = (values) => values.map((value) => [value, value]);

/** Fill the lists of choices; what was chosen and is no longer there becomes the first. */
function choices() {
  fill("set", DATA.sets.map((each, place) => [String(place), `${each.task} (${each.run})`]), String(state.set));
  state.set = Number(state.set);
  const models = unique(set().cells.map((cell) => cell.model));
  fill("model", same(models), state.model);
  const twin = models.find((model) => model.startsWith(`${state.model} + `)) || "";
  const others = models.filter((model) => model !== state.model);
  const chosen = others.includes(state.beside) || state.beside === "none";
  fill("beside", [["none", "none"], ...same(others)], chosen ? state.beside : twin || "none");
  if (!chosen && !twin) state.beside = "";
  fill("codec", same(unique(places((cell) => cell.model === state.model && !cell.base).map((cell) => cell.codec))), state.codec);
  fill("level", same(levelsOf(state.model).map((cell) => cell.level)), state.level);
  const kinds = [["", "all"], ["flipped", "flipped at this level"], ["any", "flipped at any level of this codec"],
    ["wrong", "wrong at this level"], ["failed", "not scored at this level"]];
  if (besides()) kinds.push(["won", "right only with the model beside"], ["lost", "wrong only with the model beside"], ["turned", "either of these"]);
  fill("only", kinds, state.only);
  fill("topic", [["", "all"], ...same(set().topics)], state.topic);
  for (const name of ["low", "high"]) role(name).value = state[name];
  role("pictured").checked = state.pictured === "1";
}

// Verdicts are characters: "-" for none, tenths up to ":", which is 1.

const right = (character) => character === "-" || character === undefined ? null : character >= "5";
const flips = (before, after) => right(before) !== null && right(after) !== null && right(before) !== right(after);

/** What of the data decides which questions are shown. */
async function material() {
  const mine = levelsOf(state.model);
  const cell = mine.find((each) => each.level === state.level);
  const twin = besides() ? levelsOf(besides()).find((each) => each.level === state.level) : undefined;
  const base = baseOf(state.model);
  const verdicts = (each) => each ? piece(`verdicts-${each.place}`) : Promise.resolve("");
  const [columns, before, after, beside, rates, all] = await Promise.all([
    piece("columns"), verdicts(base), verdicts(cell), verdicts(twin),
    cell && (state.low || state.high) ? piece(`rates-${cell.point}`) : Promise.resolve(null),
    state.only === "any" ? Promise.all(mine.map(verdicts)) : Promise.resolve([])]);
  return {columns, before, after, beside, rates, all};
}

function wanted({columns, before, after, beside, rates, all}) {
  const pictured = new Set(columns.pictured);
  const topic = state.topic ? set().topics.indexOf(state.topic) : -1;
  const low = state.low === "" ? -Infinity : Number(state.low);
  const high = state.high === "" ? Infinity : Number(state.high);
  const tests = {
    flipped: (place) => flips(before[place], after[place]),
    any: (place) => all.some((each) => flips(before[place], each[place])),
    wrong: (place) => right(after[place]) === false,
    failed: (place) => right(after[place]) === null,
    won: (place) => flips(after[place], beside[place]) && right(beside[place]),
    lost: (place) => flips(after[place], beside[place]) && right(after[place]),
    turned: (place) => flips(after[place], beside[place]),
  };
  const test = tests[state.only];
  const found = [];
  for (let place = 0; place < set().count; place += 1) {
    if (topic >= 0 && columns.topic[place] !== topic) continue;
    const view = columns.view[place];
    if (state.pictured === "1" && !pictured.has(view)) continue;
    if (rates && !(rates[view] !== null && rates[view] >= low && rates[view] <= high)) continue;
    if (test && !test(place)) continue;
    found.push(place);
  }
  return found;
}

// The list: only the rows in view are there.

let shown = [];
let data = null;
let turn = 0;

async function refresh() {
  turn += 1;
  const mine = turn;
  const made = await material();
  if (mine !== turn) return;
  data = made;
  shown = wanted(made);
  rows.style.height = `${shown.length * ROW}px`;
  const count = set().count.toLocaleString("en");
  find("#count").textContent = shown.length ? `${shown.length.toLocaleString("en")} of ${count} questions` : `none of ${count} questions`;
  if (shown.length && !shown.includes(state.question)) state.question = shown[0];
  reveal();
  draw();
  await detail();
  writeAddress();
}

const current = () => shown.indexOf(state.question);

function reveal() {
  const top = current() * ROW;
  if (top < 0) return;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
}

const MARKS = new Map([[true, ["✓", "right"]], [false, ["✗", "wrong"]], [null, ["–", ""]]]);

function mark(verdict) {
  const [textContent, className] = MARKS.get(verdict);
  return element("span", {textContent, className});
}

function draw() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const made = [];
  for (let number = first; number < last; number += 1) {
    const place = shown[number];
    const text = element("span", {className: "words", textContent: "…"});
    const row = element("div", {className: "row", id: `row-${place}`, role: "option"},
      element("span", {className: "marks"}, mark(right(data.before[place])), "→", mark(right(data.after[place])),
        ...(data.beside ? ["|", mark(right(data.beside[place]))] : [])), text);
    row.setAttribute("aria-selected", String(place === state.question));
    row.setAttribute("aria-setsize", String(shown.length));
    row.setAttribute("aria-posinset", String(number + 1));
    row.style.top = `${number * ROW}px`;
    row.onclick = () => choose(number);
    question(place).then((found) => { text.textContent = found.text; }, told);
    made.push(row);
  }
  rows.replaceChildren(...made);
  const active = find(`#row-${state.question}`);
  if (active) list.setAttribute("aria-activedescendant", active.id);
  else list.removeAttribute("aria-activedescendant");
}

const question = async (place) => (await piece(`questions-${Math.floor(place / set().piece)}`))[place % set().piece];

function choose(number) {
  if (!shown.length) return;
  state.question = shown[Math.min(Math.max(number, 0), shown.length - 1)];
  reveal();
  draw();
  detail().then(writeAddress, told);
}

// One question

/** A box is left, top, right and bottom, as fractions of the picture. */
function box([left, top, right_, bottom], className) {
  const made = element("div", {className: `box ${className}`});
  const part = (value) => `${100 * Math.min(Math.max(value, 0), 1)}%`;
  Object.assign(made.style, {left: part(left), top: part(top), right: part(1 - right_), bottom: part(1 - bottom)});
  return made;
}

function picture(found, alt, boxes) {
  if (!found || !found.src) return element("div", {className: "gap", textContent: found ? found.why : "no picture of this image is in the report (lossylens report --pictures)"});
  return element("div", {className: "boxed"}, element("img", {src: found.src, alt}), ...boxes);
}

function compared(pictures, item, cell, title) {
  const original = pictures && pictures.original;
  const decoded = pictures && pictures[`${cell.codec} ${cell.level}`];
  const boxes = (given) => [...(item.box ? [box(item.box, "truth")] : []), ...(given ? [box(given, "given")] : [])];
  const boxOf = (each) => each && item.boxes ? item.boxes[item.given[each.place]] : null;
  const caption = (found, name) => `${found && found.src && !found.exact ? "≈ " : ""}${name}${found && found.bpp ? `, ${found.bpp.toFixed(3)} bpp` : ""}`;
  const one = picture(original, `original of ${title}`, boxes(boxOf(baseOf(state.model))));
  const other = picture(decoded, `${cell.codec} ${cell.level} of ${title}`, boxes(boxOf(cell)));
  const names = [caption(original, "original"), caption(decoded, `${cell.codec} ${cell.level}`)];
  if (state.view !== "slider" || !original || !original.src || !decoded || !decoded.src) {
    return element("div", {className: "beside"}, ...[one, other].map((each, place) =>
      element("figure", {}, each, element("figcaption", {textContent: names[place]}))));
  }
  other.classList.add("over");
  const slider = element("input", {type: "range", min: 0, max: 100, value: 50, ariaLabel: `Border between original and ${cell.codec} ${cell.level}, in percent`});
  const line = element("div", {className: "line"});
  const move = () => {
    other.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    line.style.left = `${slider.value}%`;
  };
  slider.dataset.focus = "slider";
  slider.oninput = move;
  move();
  return element("figure", {}, element("div", {className: "compare"}, one, other, line, slider),
    element("figcaption", {className: "ends"}, element("span", {textContent: names[0]}), element("span", {textContent: names[1]})));
}

async function detail() {
  const pane = find("#detail");
  const place = state.question;
  const mine = turn;
  if (!shown.length) return pane.replaceChildren(element("p", {className: "soft", textContent: "No question is as asked for above."}));
  const {columns} = data;
  const view = columns.view[place];
  const models = [state.model, ...(besides() ? [besides()] : [])];
  const cells = [baseOf(state.model), ...levelsOf(state.model)].filter((cell) => cell);
  const twins = cells.map((cell) => models.slice(1).map((model) =>
    places((each) => each.model === model && each.base === cell.base && each.codec === cell.codec && each.level === cell.level)[0]));
  const everything = [...cells, ...twins.flat()].filter((cell) => cell);
  const [item, pictures, rates, verdicts] = await Promise.all([
    question(place),
    columns.chosen.includes(view) ? piece(`pictures-${view}`) : null,
    Promise.all(cells.map((cell) => cell.base ? null : piece(`rates-${cell.point}`))),
    Promise.all(everything.map((cell) => piece(`verdicts-${cell.place}`)))]);
  if (mine !== turn || place !== state.question) return;
  const verdict = (cell) => cell ? verdicts[everything.indexOf(cell)][place] : undefined;
  const answer = (cell) => {
    if (!cell) return "not run";
    const [text, failure] = item.texts[item.given[cell.place]];
    return text === null ? `failed: ${failure}` : `“${text}”`;
  };
  const judged = (cell, from) => {
    const made = element("td", {className: "text long"});
    if (cell && right(verdict(cell)) !== null) made.append(mark(right(verdict(cell))), " ");
    made.append(answer(cell));
    if (cell && from && flips(verdict(from), verdict(cell))) made.append(" ", element("span", {className: "flip", textContent: "flipped"}));
    return made;
  };
  const table = element("table", {},
    element("caption", {className: "sr", textContent: "Answers"}),
    element("thead", {}, element("tr", {}, ...["level", "bpp", ...models].map((text, number) =>
      element("th", {scope: "col", textContent: text, className: number === 1 ? "" : "text"})))),
    element("tbody", {}, ...cells.map((cell, number) => {
      const rate = rates[number] && rates[number][view];
      const name = element("button", {type: "button", textContent: cell.base ? "uncompressed" : cell.level, disabled: cell.base});
      name.dataset.focus = `level ${cell.level}`;
      name.onclick = () => level(cell.level);
      const row = element("tr", {}, element("th", {scope: "row"}, name), element("td", {textContent: rate ? rate.toFixed(3) : ""}),
        judged(cell, cell.base ? null : cells[0]), ...twins[number].map((twin) => {
          const made = judged(twin, null);
          if (twin && flips(verdict(cell), verdict(twin))) {
            const won = right(verdict(twin));
            made.append(" ", element("span", {className: `flip ${won ? "right" : "wrong"}`, textContent: won ? "won" : "lost"}));
          }
          return made;
        }));
      if (!cell.base && cell.level === state.level) row.setAttribute("aria-current", "true");
      return row;
    })));
  const chosen = cells.find((cell) => !cell.base && cell.level === state.level);
  const toggle = element("button", {type: "button", textContent: state.view === "slider" ? "Side by side" : "Slider"});
  toggle.dataset.focus = "view";
  toggle.onclick = changeView;
  const topic = columns.topic ? set().topics[columns.topic[place]] : "";
  // What is pressed is made anew, and keeps the focus.
  const focused = pane.contains(document.activeElement) ? document.activeElement.dataset.focus : "";
  pane.replaceChildren(
    element("h2", {textContent: item.text}),
    element("p", {className: "soft", textContent: `Answer: ${item.answer || "not given"}; sample ${item.id}${topic ? `; ${topic}` : ""}`},
      ...(item.box ? [element("span", {className: "key truth", textContent: "true box"}), element("span", {className: "key given", textContent: "answer"})] : [])),
    ...(chosen ? [compared(pictures, item, chosen, `sample ${item.id}`)] : []),
    element("p", {}, toggle),
    element("div", {className: "scroll", tabIndex: 0, role: "group", ariaLabel: "Answers"}, table));
  if (focused) pane.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

// Acting

function told(error) {
  find("#detail").replaceChildren(element("p", {className: "note", role: "alert", textContent: error.message}));
}

function update() {
  choices();
  refresh().catch(told);
}

function level(name) {
  state.level = name;
  update();
}

function step(name, by) {
  const options = [...role(name).options].map((option) => option.value);
  const next = options[(options.indexOf(state[name]) + by + options.length) % options.length];
  if (next !== undefined) state[name] = next;
  update();
}

function changeView() {
  state.view = state.view === "slider" ? "both" : "slider";
  detail().then(writeAddress, told);
}

function help() {
  const open = find("#help").hidden;
  find("#help").hidden = !open;
  find("#help-button").setAttribute("aria-expanded", String(open));
}

find("#filters").addEventListener("change", (event) => {
  const name = event.target.dataset.role;
  state[name] = name === "pictured" ? (event.target.checked ? "1" : "0") : event.target.value;
  update();
});
find("#help-button").addEventListener("click", help);
list.addEventListener("scroll", draw, {passive: true});
addEventListener("resize", () => data && draw());
addEventListener("hashchange", () => { readAddress(); update(); });

const page = () => Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
const KEYS = {
  j: () => choose(current() + 1), k: () => choose(current() - 1),
  ArrowDown: () => choose(current() + 1), ArrowUp: () => choose(current() - 1),
  PageDown: () => choose(current() + page()), PageUp: () => choose(current() - page()),
  Home: () => choose(0), End: () => choose(shown.length - 1),
  l: () => step("level", 1), h: () => step("level", -1),
  ArrowRight: () => step("level", 1), ArrowLeft: () => step("level", -1),
  c: () => step("codec", 1),
  f: () => { state.only = state.only ? "" : "flipped"; update(); },
  v: changeView,
  "?": help,
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !data) return;
  const on = event.target;
  if (on.matches("select, input:not([type=range]):not([type=checkbox])")) return;
  // Arrows and the like scroll and slide where they are used, and choose in the list alone.
  const chooses = on === list || (on === document.body && event.key.startsWith("Arrow"));
  if (event.key.length > 1 && !chooses) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

if (innerWidth < 700) find("#filters").open = false;
readAddress();
update();
