"use strict";

const SIDE = 28, SITES = SIDE * SIDE, IMAGES = 6;
const SECONDS = 1.2; // in which an image appears, where it is computed sooner
const PEN = 1.1; // radius of the pen, in pixels: strokes are about as wide as in MNIST
const CELL = 20; // of the board, in units of its canvas
const ABOUT = {
  GatedPixelCNN: "Reads every pixel above, and to the left.",
  RowLSTM: "Remembers row by row, and sees a triangle above each pixel.",
};

const element = (id) => document.getElementById(id);
const board = element("board"), brush = board.getContext("2d");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const placeName = (row, column) => `Row ${row + 1}, column ${column + 1}`;
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

// The drawing.

const drawing = { ink: new Uint8Array(SITES), known: new Uint8Array(SITES) };
const cursor = { row: 8, column: 13 };
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "drawn", "to-come", "hatch", "grid", "accent"];
  const value = (name) => style.getPropertyValue(`--${name}`).trim();
  colours = Object.fromEntries(names.map((name) => [name, value(name)]));
}

function lastRowDrawn() {
  return Math.floor(drawing.ink.lastIndexOf(1) / SIDE);
}

function markRows(count) {
  drawing.known.fill(0).fill(1, 0, count * SIDE);
  element("rows").value = count;
}

// What is known, or drawn, has changed.
function drawingChanged() {
  if (element("follow").checked) markRows(lastRowDrawn() + 1);
  const count = drawing.known.lastIndexOf(1) + 1;
  const whole = count % SIDE === 0 && !drawing.known.subarray(0, count).includes(0);
  element("rows-shown").value = whole ? `${count / SIDE}` : "marked by hand";
  showBoard();
}

function showBoard() {
  const { ink, known } = drawing, size = SIDE * CELL;
  brush.fillStyle = colours.paper;
  brush.fillRect(0, 0, size, size);
  for (let site = 0; site < SITES; site++) {
    const x = (site % SIDE) * CELL, y = Math.floor(site / SIDE) * CELL;
    if (!known[site]) {
      brush.fillStyle = colours["to-come"];
      brush.fillRect(x, y, CELL, CELL);
      brush.fillStyle = colours.hatch;
      brush.fillRect(x + CELL / 2 - 2, y + CELL / 2 - 2, 4, 4);
    }
    if (ink[site]) {
      brush.globalAlpha = known[site] ? 1 : 0.35; // ink that no completion will see
      brush.fillStyle = colours.ink;
      brush.fillRect(x, y, CELL, CELL);
      brush.globalAlpha = 1;
    } else if (known[site]) {
      brush.strokeStyle = colours.grid;
      brush.strokeRect(x + 0.5, y + 0.5, CELL, CELL);
    }
  }
  showEdge();
  if (document.activeElement === board && board.matches(":focus-visible")) {
    brush.lineWidth = 3;
    brush.strokeStyle = colours.accent;
    brush.strokeRect(cursor.column * CELL - 1, cursor.row * CELL - 1, CELL + 2, CELL + 2);
    brush.lineWidth = 1;
  }
}

// The line between what is known and what is not.
function showEdge() {
  const { known } = drawing;
  brush.fillStyle = colours.accent;
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const here = known[row * SIDE + column], x = column * CELL, y = row * CELL;
      if (row && here !== known[(row - 1) * SIDE + column]) brush.fillRect(x, y - 1, CELL, 2);
      if (column && here !== known[row * SIDE + column - 1]) brush.fillRect(x - 1, y, 2, CELL);
    }
  }
}

// The tool, applied to the pixels whose centres lie within the pen at (x, y).
function apply(x, y) {
  const tool = chosen("tool");
  if (tool === "known" || tool === "unknown") element("follow").checked = false;
  for (let row = Math.floor(y - PEN); row <= y + PEN; row++) {
    for (let column = Math.floor(x - PEN); column <= x + PEN; column++) {
      const inside = row >= 0 && row < SIDE && column >= 0 && column < SIDE;
      if (!inside || Math.hypot(column + 0.5 - x, row + 0.5 - y) > PEN) continue;
      const layer = tool === "ink" || tool === "erase" ? drawing.ink : drawing.known;
      layer[row * SIDE + column] = Number(tool === "ink" || tool === "known");
    }
  }
}

function stroke(from, to) {
  const steps = Math.ceil(4 * Math.hypot(to.x - from.x, to.y - from.y)) || 1;
  for (let i = 1; i <= steps; i++) {
    apply(from.x + ((to.x - from.x) * i) / steps, from.y + ((to.y - from.y) * i) / steps);
  }
}

let pen = null; // where the pointer is, while it draws; of several fingers, the first

function place(event) {
  const box = board.getBoundingClientRect();
  const scale = SIDE / board.clientWidth;
  return {
    pointer: event.pointerId,
    x: (event.clientX - box.left - board.clientLeft) * scale,
    y: (event.clientY - box.top - board.clientTop) * scale,
  };
}

board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || pen) return;
  board.setPointerCapture(event.pointerId);
  pen = place(event);
  cursor.row = clamp(Math.floor(pen.y), 0, SIDE - 1);
  cursor.column = clamp(Math.floor(pen.x), 0, SIDE - 1);
  apply(pen.x, pen.y);
  drawingChanged();
});
board.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pen?.pointer) return;
  for (const moved of event.getCoalescedEvents?.() ?? [event]) {
    const next = place(moved);
    stroke(pen, next);
    pen = next;
  }
  drawingChanged();
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  board.addEventListener(end, ({ pointerId }) => {
    if (pointerId === pen?.pointer) pen = null;
  });
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

board.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (event.key === "Enter") return void complete();
  if (!arrow && event.key !== " ") return;
  event.preventDefault();
  if (arrow) {
    cursor.row = clamp(cursor.row + arrow[0], 0, SIDE - 1);
    cursor.column = clamp(cursor.column + arrow[1], 0, SIDE - 1);
  }
  if (!arrow || event.shiftKey) apply(cursor.column + 0.5, cursor.row + 0.5);
  drawingChanged();
  const site = cursor.row * SIDE + cursor.column;
  const ink = drawing.ink[site] ? "ink" : "paper", known = drawing.known[site] ? "" : "not ";
  element("where").textContent = `${placeName(cursor.row, cursor.column)}: ${ink}, ${known}known`;
});
board.addEventListener("focus", showBoard);
board.addEventListener("blur", showBoard);

element("clear").addEventListener("click", () => {
  drawing.ink.fill(0);
  element("follow").checked = true;
  drawingChanged();
});
element("rows").addEventListener("input", ({ target }) => {
  element("follow").checked = false;
  markRows(Number(target.value));
  drawingChanged();
});
element("follow").addEventListener("change", drawingChanged);

// The model, in a worker.

// What the worker runs, as text: of a model's name, its weights once, and requests.
function serve({ complete, readTensors, uniforms }) {
  const tensors = {};
  let last = 0;
  // A turn of the event loop, in which a newer request can come. (A timer would take 4 ms.)
  const turn = () =>
    new Promise((done) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => done(port1.close());
      port2.postMessage(null);
    });

  self.onmessage = async ({ data }) => {
    const { id, name, weights, seed, ...request } = data;
    last = id;
    try {
      const begun = performance.now();
      if (weights) tensors[name] = readTensors(Uint8Array.from(atob(weights), (c) => c.charCodeAt(0)));
      request.noise ??= uniforms(seed, request.images, request.given.length);
      for (const row of complete({ ...request, tensors: tensors[name] })) {
        self.postMessage({ id, ...row, seconds: (performance.now() - begun) / 1000 });
        await turn();
        if (id !== last) return;
      }
    } catch (error) {
      self.postMessage({ id, error: String(error) });
    }
  };
}

let worker = null;
const sent = new Set(); // models whose weights the worker has

function ask(message) {
  if (!worker) {
    const text = `(${serve})((${sampler})());`;
    worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => receive(data);
    worker.onerror = (event) => fail(event.message);
  }
  worker.postMessage(message);
}

function fail(message) {
  if (result) result.failed = true;
  element("status").textContent = `This browser cannot run the model: ${message}`;
  element("status").classList.add("trouble");
}

// The completions.

const canvases = Array.from({ length: IMAGES }, () => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.setAttribute("role", "img");
  element("completions").append(canvas);
  return canvas;
});

function nameImages(kind) {
  element("results-title").textContent = `Six ${kind.toLowerCase()}s`;
  canvases.forEach((canvas, i) => {
    canvas.setAttribute("aria-label", `${kind} ${i + 1} of ${IMAGES}`);
  });
}
nameImages("Completion");

let result = null; // of the last request: what is asked, computed and shown of it
let numRequests = 0;

// Draws six images anew. `noise`, uniform numbers [images, sites], stands in for the seed's.
function run({ given, known, seed, noise, what }) {
  const model = MODELS[element("model").selectedIndex];
  const asked = { given: given.slice(), known: known.slice(), seed, noise, what };
  result = {
    ...asked,
    id: ++numRequests,
    levels: new Uint8Array(IMAGES * SITES),
    probabilities: new Float32Array(IMAGES * SITES).fill(NaN),
    computed: 0, // sites
    shown: 0,
    seconds: null,
    failed: false,
  };
  element("seed").value = seed;
  nameImages(what === "samples" ? "Sample" : "Completion");
  element("status").classList.remove("trouble");
  element("status").textContent = "Drawing …";
  for (let i = 0; i < IMAGES; i++) showSites(i, 0, SITES);
  ask({
    id: result.id,
    name: model.name,
    model: model.model,
    weights: sent.has(model.name) ? undefined : model.weights,
    given: asked.given,
    known: asked.known,
    temperature: Number(element("temperature").value),
    images: IMAGES,
    seed,
    noise,
  });
  sent.add(model.name);
  requestAnimationFrame((now) => reveal(now, now, result.id));
}

function receive({ id, error, row, levels, probabilities, seconds }) {
  if (id !== result.id) return;
  if (error) return fail(error);
  for (let i = 0; i < IMAGES; i++) {
    const from = i * SIDE, to = i * SITES + row * SIDE;
    result.levels.set(levels.subarray(from, from + SIDE), to);
    result.probabilities.set(probabilities.subarray(from, from + SIDE), to);
  }
  result.computed = (row + 1) * SIDE;
  if (result.computed === SITES) result.seconds = seconds;
}

// Shows what is computed, pixel by pixel. What is known takes no time.
function reveal(now, before, id) {
  if (id !== result.id || result.failed) return;
  const { known, computed, shown } = result;
  let budget = still.matches ? SITES : ((now - before) / 1000 / SECONDS) * SITES;
  let next = shown;
  while (next < computed && (budget >= 1 || known[next])) budget -= !known[next++];
  if (next > shown) {
    result.shown = next;
    for (let i = 0; i < IMAGES; i++) showSites(i, shown, next);
    before = now;
  }
  if (next < SITES) return void requestAnimationFrame((later) => reveal(later, before, id));
  const count = result.known.reduce((sum, k) => sum + k, 0), seconds = result.seconds.toFixed(2);
  const given = count ? `given ${count} pixels` : "from nothing";
  element("status").textContent = `Six images ${given}, computed in ${seconds} s.`;
}

function showSites(image, from, to) {
  const context = canvases[image].getContext("2d");
  const probabilities = chosen("view") === "probabilities";
  for (let site = from; site < to; site++) {
    const x = site % SIDE, y = Math.floor(site / SIDE), at = image * SITES + site;
    const known = result.known[site], drawn = site < result.shown;
    const ink = known ? result.given[site] : result.levels[at];
    context.fillStyle = known ? (ink ? colours.ink : colours.paper) : colours["to-come"];
    if (drawn && !known) context.fillStyle = probabilities || !ink ? colours.paper : colours.drawn;
    context.fillRect(x, y, 1, 1);
    if (probabilities && drawn && !known) {
      context.globalAlpha = result.probabilities[at];
      context.fillStyle = colours.drawn;
      context.fillRect(x, y, 1, 1);
      context.globalAlpha = 1;
    }
  }
}

function showAll() {
  showBoard();
  if (result) for (let i = 0; i < IMAGES; i++) showSites(i, 0, SITES);
}

// A seed for what comes next: the one that is kept, or a new one.
function nextSeed() {
  const field = element("seed");
  const valid = field.value !== "" && field.checkValidity();
  if (element("keep").checked && valid) return Number(field.value);
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

function complete() {
  const { ink, known } = drawing;
  run({ given: ink, known, seed: nextSeed(), what: "completions" });
}

function surprise() {
  const nothing = new Uint8Array(SITES);
  run({ given: nothing, known: nothing, seed: nextSeed(), what: "samples" });
}

// Another temperature, or model: the same again, of the same noise.
function again() {
  if (result) run(result);
}

function goTo(canvas) {
  const smooth = still.matches ? "auto" : "smooth";
  canvas.scrollIntoView({ block: "nearest", behavior: smooth });
}

element("complete").addEventListener("click", () => {
  complete();
  goTo(element("completions"));
});
element("surprise").addEventListener("click", () => {
  surprise();
  goTo(element("completions"));
});
element("temperature").addEventListener("input", ({ target }) => {
  element("temperature-shown").value = Number(target.value).toFixed(2);
});
element("temperature").addEventListener("change", again);
element("model").addEventListener("change", () => {
  showModel();
  again();
});
element("seed").addEventListener("input", () => (element("keep").checked = true));
element("views").addEventListener("change", () => {
  const probabilities = chosen("view") === "probabilities";
  element("legend-pixels").hidden = probabilities;
  element("legend-probabilities").hidden = !probabilities;
  showAll();
});
element("completions").addEventListener("pointermove", ({ target, offsetX, offsetY }) => {
  const image = canvases.indexOf(target);
  if (image < 0 || !result) return;
  const at = (offset, size) => clamp(Math.floor((offset / size) * SIDE), 0, SIDE - 1);
  const row = at(offsetY, target.clientHeight), column = at(offsetX, target.clientWidth);
  const site = row * SIDE + column, p = result.probabilities[image * SITES + site];
  let said = "to come";
  if (result.known[site]) said = `known, ${result.given[site] ? "ink" : "paper"}`;
  else if (site < result.shown) {
    const drawn = result.levels[image * SITES + site] ? "ink" : "paper";
    said = `probability of ink ${p.toFixed(3)}, drawn ${drawn}`;
  }
  element("readout").textContent = `${placeName(row, column)}: ${said}.`;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  showAll();
});

function showModel() {
  const { model, about } = MODELS[element("model").selectedIndex];
  element("about-model").textContent = `${ABOUT[model.model]} ${about}`;
}

// The upper half of a digit to begin with.
function begin() {
  readColours();
  if (typeof MODELS === "undefined") {
    showBoard();
    return fail("models.js is missing, which python -m experiments.demo_page writes.");
  }
  for (const { name } of MODELS) element("model").append(new Option(name));
  element("temperature-shown").value = Number(element("temperature").value).toFixed(2);
  showModel();
  const points = [[9, 9], [10.5, 6.5], [14, 5.5], [17.5, 6.5], [18.5, 9], [17.5, 11.5], [15, 13.5]];
  points.slice(1).forEach(([x, y], i) => stroke({ x: points[i][0], y: points[i][1] }, { x, y }));
  drawingChanged();
  complete();
}

begin();
