(() => { // brain viewer: three slices and a rotatable glass brain, drawn on canvases from one byte per cell
  const brain = JSON.parse(document.getElementById("data").textContent).brain;
  const live = document.querySelector(".figure-brain-slices .live");
  if (!brain || !live) return;
  const tips = window.tips;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const number = (value, digits) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits);
  const made = (name, properties, ...children) => {
    const one = Object.assign(document.createElement(name), properties);
    one.append(...children);
    return one;
  };

  // each subject's cells on its whole grid: inside is 0 or 1, region is 0 (none) or 1 …, missing values are NaN
  const subjects = brain.subjects.map((one) => {
    const size = one.shape[0] * one.shape[1] * one.shape[2];
    const bits = bytes(one.inside);
    const inside = Uint8Array.from({ length: size }, (_, at) => (bits[at >> 3] >> (7 - (at & 7))) & 1);
    const region = new Uint8Array(size);
    const numbers = bytes(one.regions);
    for (let at = 0, cell = 0; at < size; at++) if (inside[at]) region[at] = numbers[cell++];
    return { ...one, size, inside, region };
  });
  const first = subjects[0];
  const same = subjects.filter((one) => `${one.shape} ${one.affine}` === `${first.shape} ${first.affine}`);
  const together = same.length > 1 && same.length === subjects.length;
  const cache = new Map();
  function values(subject, method, agent) {
    const key = [subject.name, method, agent].join(" ");
    if (!cache.has(key)) {
      const { low, high } = brain.methods[method];
      const found = new Float32Array(subject.size).fill(NaN);
      const text = subject.maps[method][agent];
      const sent = text ? bytes(text) : new Uint8Array(subject.size);
      for (let at = 0, cell = 0; at < subject.size; at++) {
        if (!subject.inside[at]) continue;
        const step = sent[cell++];
        if (step) found[at] = low + (step - 1) / 254 * (high - low);
      }
      cache.set(key, found);
    }
    return cache.get(key);
  }
  function significant(subject, method, agent) { // null for a map without a mask
    const key = ["mask", subject.name, method, agent].join(" ");
    if (!cache.has(key)) {
      const text = subject.significant[method][agent];
      const bits = text && bytes(text);
      const found = text ? new Uint8Array(subject.size) : null;
      for (let at = 0, cell = 0; text && at < subject.size; at++) if (subject.inside[at]) {
        found[at] = (bits[cell >> 3] >> (7 - (cell & 7))) & 1;
        cell++;
      }
      cache.set(key, found);
    }
    return cache.get(key);
  }
  function mean(some, method, agent, masked) { // over the subjects that have a value and, if masked, where it is significant
    const every = some.map((one) => values(one, method, agent));
    const kept = some.map((one) => (masked ? significant(one, method, agent) : null));
    return Float32Array.from(every[0], (_, at) => {
      let sum = 0, n = 0;
      every.forEach((one, who) => { if (!Number.isNaN(one[at]) && (!kept[who] || kept[who][at])) { sum += one[at]; n++; } });
      return n ? sum / n : NaN;
    });
  }

  // controls
  function select(name, options) {
    const box = made("select", {}, ...options.map(([value, text]) => made("option", { value, textContent: text })));
    box.dataset.control = name;
    return [box, made("label", {}, made("span", { textContent: name }), box)];
  }
  const methods = Object.keys(brain.methods);
  const [method, methodLabel] = select("Map", methods.map((one) => [one, brain.methods[one].title]));
  const [agent, agentLabel] = select("Agent", brain.agents.map((one) => [one, one]));
  const [minus, minusLabel] = select("Minus", [["", "none"], ...brain.agents.map((one) => [one, one])]);
  const people = subjects.map((one, at) => [String(at), one.name]);
  const [who, whoLabel] = select("Subject", together ? [["", `mean of ${subjects.length}`], ...people] : people);
  const least = made("input", { type: "range", min: 0, max: 100, value: 0 });
  least.dataset.control = "threshold";
  const leastText = made("output");
  const peak = made("button", { type: "button", textContent: "Go to the highest value" });
  const controls = made("div", { className: "controls" }, methodLabel, agentLabel, minusLabel, whoLabel,
    made("label", {}, made("span", {}, "Hide values up to ", leastText), least), peak);
  const status = made("p", { className: "status" });
  status.setAttribute("aria-live", "polite");
  const bar = made("div", { className: "ramp" });
  const said = made("p", { className: "voxels" });
  said.setAttribute("aria-live", "polite");
  const every = live.closest("figure").querySelector(".switch input"); // also of the pictures for paper; null: no map has a mask

  const names = ["x", "y", "z"];
  const planes = [["sagittal", 0, 1, 2], ["coronal", 1, 0, 2], ["axial", 2, 0, 1]];
  const panels = planes.map(([title, still, across, up]) => {
    const canvas = made("canvas", { tabIndex: 0 });
    canvas.setAttribute("role", "img");
    const slider = made("input", { type: "range", min: 0 });
    slider.dataset.control = names[still];
    const text = made("output");
    const panel = made("div", { className: "panel" }, canvas, made("label", {}, made("span", {}, `${title}, `, text), slider));
    return { title, still, across, up, canvas, slider, text, panel };
  });
  const turned = made("canvas", { tabIndex: 0 });
  turned.setAttribute("role", "img");
  turned.setAttribute("aria-label", "Glass brain: drag it or use the arrow keys to rotate it");
  const turning = made("div", { className: "panel" }, turned, made("p", { textContent: "Drag or use the arrow keys to rotate" }));
  const grid = made("div", { className: "slices" }, ...panels.map((one) => one.panel), turning);
  live.append(controls, grid, bar, said, status);
  live.closest("figure").classList.add("scripted");

  // state
  let subject = first, shown = null, whole = null, marks = [], top = 1, place = [0, 0, 0], angles = [0.6, 0.25];
  const index = (i, j, k) => (i * subject.shape[1] + j) * subject.shape[2] + k;
  const mm = (cell) => names.map((_, row) => {
    const a = subject.affine.slice(4 * row, 4 * row + 4);
    return a[0] * cell[0] + a[1] * cell[1] + a[2] * cell[2] + a[3];
  });
  const edge = (axis) => Math.hypot(subject.affine[axis], subject.affine[4 + axis], subject.affine[8 + axis]);
  const regionAt = (at) => (who.value === "" ? same.map((one) => one.region[at]).find(Boolean) : subject.region[at]) || 0;
  const insideAt = (at) => (who.value === "" ? same.some((one) => one.inside[at]) : subject.inside[at]);
  const threshold = () => top * least.value / 100;
  const visible = (value) => (minus.value === "" ? value > threshold() : Math.abs(value) > threshold());

  function describe(cell) {
    const at = index(...cell);
    const [x, y, z] = mm(cell).map((one) => number(one, 0));
    const where = brain.regions[regionAt(at) - 1] ?? (insideAt(at) ? "no named region" : "outside the brain");
    const value = Number.isNaN(whole[at]) ? "no value" : number(Number.isNaN(shown[at]) ? whole[at] : shown[at], 3) + levels(at);
    return [`x ${x}, y ${y}, z ${z} mm`, where, value];
  }

  function levels(at) { // how many of the maps are significant here, unless all of them are
    const n = marks.reduce((sum, one) => sum + one[at], 0);
    if (n === marks.length) return "";
    return n ? ` (significant in ${n} of ${marks.length} maps)` : " (not significant)";
  }
  function tell() { // which voxels are coloured
    const mask = brain.methods[method.value].mask;
    const what = minus.value === "" ? "values above 0" : "differences";
    if (!marks.length) {
      said.textContent = `Coloured: ${what} of all voxels, significant or not.`;
      return;
    }
    const inside = shown.reduce((n, _, at) => n + (insideAt(at) ? 1 : 0), 0);
    const n = shown.reduce((sum, _, at) => sum + (insideAt(at) && marks.some((one) => one[at]) ? 1 : 0), 0);
    const where = marks.length > 1 ? " in at least one map" : "";
    const count = `${n.toLocaleString("en")} of ${inside.toLocaleString("en")} ${brain.cells} are significant${where} (${mask}, relabelled stimuli)`;
    said.textContent = every?.checked ? `Coloured: ${what} of all voxels, significant or not; ${count}.` : `Coloured: ${what} of significant voxels alone; ${count}.`;
  }

  // drawing
  let colours = {};
  function readColours() {
    const style = getComputedStyle(live);
    colours = Object.fromEntries(["pos", "neg", "rule", "ink", "paper"].map((one) => [one, style.getPropertyValue("--" + one).trim()]));
  }
  function paint(context, value) {
    context.globalAlpha = 0.12 + 0.88 * Math.min(1, Math.abs(value) / top);
    context.fillStyle = value > 0 ? colours.pos : colours.neg;
  }
  function prepare(canvas, width, height) { // in mm; returns pixels per mm
    const wide = canvas.clientWidth * devicePixelRatio;
    canvas.width = Math.max(1, Math.round(wide));
    canvas.height = Math.max(1, Math.round(wide * height / width));
    return canvas.width / width;
  }
  function drawSlice(panel) {
    const { canvas, still, across, up } = panel;
    const [w, h] = [subject.shape[across], subject.shape[up]];
    const [dx, dy] = [edge(across), edge(up)];
    canvas.style.aspectRatio = `${w * dx} / ${h * dy}`;
    const scale = prepare(canvas, w * dx, h * dy);
    const context = canvas.getContext("2d");
    const cell = [...place];
    const at = (step, size) => Math.round(step * size * scale);
    for (const layer of [0, 1]) {
      context.globalAlpha = 0.55;
      context.fillStyle = colours.rule;
      for (let a = 0; a < w; a++) for (let b = 0; b < h; b++) {
        cell[across] = a; cell[up] = b;
        const here = index(...cell);
        if (!insideAt(here) || (layer && !visible(shown[here]))) continue;
        if (layer) paint(context, shown[here]);
        const [x, y] = [at(a, dx), at(h - 1 - b, dy)];
        context.fillRect(x, y, at(a + 1, dx) - x, at(h - b, dy) - y);
      }
    }
    context.globalAlpha = 0.7;
    context.fillStyle = colours.ink;
    const line = Math.max(1, Math.round(devicePixelRatio));
    context.fillRect(at(place[across] + 0.5, dx), 0, line, canvas.height);
    context.fillRect(0, at(h - place[up] - 0.5, dy), canvas.width, line);
    if (across === 0) { // mark left and right
      context.globalAlpha = 1;
      context.font = `${Math.round(11 * devicePixelRatio)}px sans-serif`;
      context.textBaseline = "top";
      context.fillText("L", 2, 2);
      context.fillText("R", canvas.width - context.measureText("R").width - 2, 2);
    }
    panel.slider.max = subject.shape[still] - 1;
    panel.slider.value = place[still];
    const here = mm(place)[still];
    panel.text.textContent = `${names[still]} ${number(here, 0)} mm`;
    panel.slider.setAttribute("aria-valuetext", `${names[still]} ${number(here, 0)} mm`);
    canvas.setAttribute("aria-label", `${panel.title} slice at ${names[still]} ${number(here, 0)} mm; use the arrow keys to move the cross`);
  }
  function drawTurned() {
    const sizes = [0, 1, 2].map((axis) => subject.shape[axis] * edge(axis));
    const reach = Math.max(...sizes) * 1.12;
    turned.style.aspectRatio = "1";
    const scale = prepare(turned, reach, reach);
    const context = turned.getContext("2d");
    const [c, s] = [Math.cos(angles[0]), Math.sin(angles[0])], [d, t] = [Math.cos(angles[1]), Math.sin(angles[1])];
    const some = [];
    const dot = Math.max(1, Math.max(edge(0), edge(1), edge(2)) * scale * 1.1);
    context.fillStyle = colours.rule;
    const middle = subject.shape.map((n) => (n - 1) / 2);
    for (let i = 0; i < subject.shape[0]; i++) for (let j = 0; j < subject.shape[1]; j++) for (let k = 0; k < subject.shape[2]; k++) {
      const at = index(i, j, k);
      if (!insideAt(at)) continue;
      const [x, y, z] = [(i - middle[0]) * edge(0), (j - middle[1]) * edge(1), (k - middle[2]) * edge(2)];
      const across = (c * x + s * y) * scale + turned.width / 2;
      const down = turned.height / 2 - (d * z + t * (c * y - s * x)) * scale;
      context.fillRect(across - dot / 2, down - dot / 2, dot, dot);
      if (visible(shown[at])) some.push([Math.abs(shown[at]), across, down, shown[at]]);
    }
    some.sort((one, other) => one[0] - other[0]); // the largest value along each line of sight is drawn last
    context.globalAlpha = 1;
    for (const [, across, down, value] of some) {
      context.globalAlpha = 1;
      context.fillStyle = colours.paper;
      context.fillRect(across - dot / 2, down - dot / 2, dot, dot);
      paint(context, value);
      context.fillRect(across - dot / 2, down - dot / 2, dot, dot);
    }
  }
  function drawAll() {
    readColours();
    const wide = panels.map((one) => subject.shape[one.across] * edge(one.across)); // all slices have the same scale
    grid.style.setProperty("--columns", [...wide, Math.max(...wide)].map((one) => `minmax(0, ${one}fr)`).join(" "));
    for (const panel of panels) drawSlice(panel);
    drawTurned();
    const signed = minus.value !== "";
    bar.replaceChildren(made("span", { textContent: signed ? number(-top, 3) : "0" }), made("i", { className: signed ? "signed" : "" }),
      made("span", { textContent: number(top, 3) }));
    leastText.textContent = number(threshold(), 3);
    status.textContent = describe(place).join(" · ");
    tell();
  }
  function choose() { // show another map
    const before = subject.affine;
    subject = who.value === "" ? first : subjects[Number(who.value)];
    const some = who.value === "" ? same : [subject];
    const compared = [agent.value, minus.value].filter(Boolean);
    const map = (masked) => {
      const [own, other] = compared.map((one) => mean(some, method.value, one, masked));
      return other ? own.map((value, at) => value - other[at]) : own;
    };
    whole = map(false);
    shown = every?.checked ? whole : map(true);
    marks = some.flatMap((person) => compared.map((one) => significant(person, method.value, one))).filter(Boolean);
    const most = whole.reduce((largest, value) => Math.max(largest, Math.abs(value) || 0), 0);
    top = Math.max(1e-6, minus.value === "" ? brain.methods[method.value].high : most); // of all voxels, so that colours can be compared
    if (before !== subject.affine) place = place.map((one, axis) => Math.min(one, subject.shape[axis] - 1));
    drawAll();
  }
  function toPeak() {
    let best = -1;
    shown.forEach((value, at) => {
      const height = (one) => (minus.value === "" ? one : Math.abs(one)); // for a difference, the sign does not matter
      if (!Number.isNaN(value) && (best < 0 || height(value) > height(shown[best]))) best = at;
    });
    if (best < 0) return;
    const [, ny, nz] = subject.shape;
    place = [Math.floor(best / (ny * nz)), Math.floor(best / nz) % ny, best % nz];
    drawAll();
  }
  const step = (axis, by) => {
    place[axis] = Math.max(0, Math.min(subject.shape[axis] - 1, place[axis] + by));
    drawAll();
  };

  // input
  for (const one of [method, agent, minus, who, every]) one?.addEventListener("change", choose);
  least.addEventListener("input", drawAll);
  peak.addEventListener("click", toPeak);
  const keys = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  for (const panel of panels) {
    const { canvas, still, across, up } = panel;
    panel.slider.addEventListener("input", () => { place[still] = Number(panel.slider.value); drawAll(); });
    const under = (event) => {
      const box = canvas.getBoundingClientRect();
      const cell = [...place];
      const clip = (value, axis) => Math.max(0, Math.min(subject.shape[axis] - 1, Math.floor(value)));
      cell[across] = clip((event.clientX - box.left) / box.width * subject.shape[across], across);
      cell[up] = clip((1 - (event.clientY - box.top) / box.height) * subject.shape[up], up);
      return cell;
    };
    canvas.addEventListener("pointerdown", (event) => { place = under(event); canvas.setPointerCapture(event.pointerId); drawAll(); });
    canvas.addEventListener("pointermove", (event) => {
      const cell = under(event);
      if (event.buttons) { place = cell; drawAll(); }
      const [where, region, value] = describe(cell);
      tips.show(event.clientX, event.clientY, value, region, where);
    });
    canvas.addEventListener("pointerleave", tips.hide);
    canvas.addEventListener("keydown", (event) => {
      const by = keys[event.key];
      if (!by) return;
      event.preventDefault();
      step(by[0] ? across : up, by[0] || by[1]);
    });
  }
  function turn(yaw, pitch) {
    angles = [angles[0] + yaw, Math.max(-1.57, Math.min(1.57, angles[1] + pitch))];
    drawTurned();
  }
  turned.addEventListener("pointerdown", (event) => turned.setPointerCapture(event.pointerId));
  turned.addEventListener("pointermove", (event) => { if (event.buttons) turn(event.movementX / 120, event.movementY / 120); });
  turned.addEventListener("keydown", (event) => {
    const by = keys[event.key];
    if (!by) return;
    event.preventDefault();
    turn(by[0] * 0.2, -by[1] * 0.2);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let width = 0;
  new ResizeObserver(() => { if (live.clientWidth !== width) { width = live.clientWidth; drawAll(); } }).observe(live);
  choose();
  toPeak();
})();
