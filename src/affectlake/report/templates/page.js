"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const row = new Map(data.stimuli.index.map((index, at) => [index, at]));

  // tooltip: a bold first line and plain lines below; text only, never markup
  function show(x, y, title, ...lines) {
    const bold = document.createElement("b");
    bold.textContent = title;
    const rest = lines.filter(Boolean).map((line) => {
      const part = document.createElement("div");
      part.textContent = line;
      return part;
    });
    tip.replaceChildren(bold, ...rest);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth ? x - box.width - 16 : x + 16;
    const top = y + 16 + box.height > innerHeight ? y - box.height - 16 : y + 16;
    tip.style.left = Math.max(8, Math.min(left, innerWidth - box.width - 8)) + "px";
    tip.style.top = Math.max(8, top) + "px";
  }
  const hide = () => { tip.hidden = true; };
  window.tips = { show, hide };

  function inside(svg, event) { // pointer position in the units of the drawing
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  }
  function outside(svg, x, y) { // position on the screen of a point of the drawing
    return new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  }

  // stimulus maps: one category is highlighted in all of them, so that agents can be compared
  const maps = [...document.querySelectorAll(".figure-stimulus-map svg")];
  const buttons = [...document.querySelectorAll(".legend button")];
  let pinned = null;
  function pick(category) {
    for (const svg of maps) {
      svg.classList.toggle("picking", category !== null);
      for (const part of svg.querySelectorAll("[data-c]")) part.classList.toggle("on", part.dataset.c === category);
    }
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      pinned = pinned === button.dataset.c ? null : button.dataset.c;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.c === pinned));
      pick(pinned);
    });
    button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") pick(button.dataset.c); });
    button.addEventListener("pointerleave", () => pick(pinned));
  }
  for (const svg of maps) {
    const ring = svg.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
    ring.setAttribute("class", "ring");
    ring.setAttribute("r", 5);
    const points = [...svg.querySelectorAll("use[data-i]")].map((dot) => ({
      x: Number(dot.getAttribute("x")), y: Number(dot.getAttribute("y")), index: Number(dot.dataset.i), c: dot.closest("[data-c]").dataset.c,
    })).sort((one, other) => one.index - other.index);
    let current = null;
    const choosable = () => points.filter((point) => pinned === null || point.c === pinned);
    function at(point) {
      current = point;
      ring.setAttribute("cx", point.x);
      ring.setAttribute("cy", point.y);
      ring.classList.add("at");
      const where = outside(svg, point.x, point.y);
      const found = row.get(point.index);
      show(where.x, where.y, data.stimuli.id[found], data.categories.length ? data.categories[data.stimuli.category[found]] ?? "no category" : "", data.stimuli.caption[found], data.stimuli.rated?.[found]);
    }
    function leave() { ring.classList.remove("at"); current = null; hide(); }
    const nearby = (event) => {
      const here = inside(svg, event);
      let best = null, least = 13 ** 2;
      for (const point of choosable()) {
        const away = (point.x - here.x) ** 2 + (point.y - here.y) ** 2;
        if (away < least) { least = away; best = point; }
      }
      if (best) at(best); else leave();
    };
    svg.addEventListener("pointermove", nearby);
    svg.addEventListener("pointerdown", nearby);
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") leave();
      const some = choosable();
      if (!step || !some.length) return;
      event.preventDefault();
      const place = some.indexOf(current);
      at(some[place < 0 ? 0 : (place + step + some.length) % some.length]);
    });
  }

  // heat maps: an image for each family of ratings, a cell for each correlation
  for (const svg of document.querySelectorAll(".figure-heatmap svg")) {
    const cells = data.heat[svg.closest("[data-agent]").dataset.agent];
    const blocks = [...svg.querySelectorAll("image")].slice(0, cells.blocks.length);
    const starts = cells.blocks.map((n, at) => cells.blocks.slice(0, at).reduce((sum, one) => sum + one, 0));
    const cursor = svg.appendChild(document.createElementNS(svg.namespaceURI, "rect"));
    cursor.setAttribute("class", "cursor");
    let place = null;
    function box(line, column) { // position of a cell on the screen
      const block = starts.filter((start) => start <= column).length - 1;
      const last = block + 1 < starts.length ? starts[block + 1] : cells.columns.length;
      const all = blocks[block].getBoundingClientRect();
      const width = all.width / (last - starts[block]), height = all.height / cells.rows.length;
      return new DOMRect(all.left + (column - starts[block]) * width, all.top + line * height, width, height);
    }
    function at(line, column) {
      place = [line, column];
      const cell = box(line, column);
      const [one, other] = [[cell.left, cell.top], [cell.right, cell.bottom]].map(([x, y]) => inside(svg, { clientX: x, clientY: y }));
      for (const [key, value] of Object.entries({ x: one.x, y: one.y, width: other.x - one.x, height: other.y - one.y })) cursor.setAttribute(key, value);
      cursor.classList.add("at");
      const r = cells.r[line][column];
      const text = r === null ? "no correlation: constant values" : "r = " + (r < 0 ? "\u2212" : "") + Math.abs(r / 1000).toFixed(3);
      show(cell.right, cell.bottom, cells.columns[column], "dimension " + cells.rows[line], text);
    }
    function leave() { cursor.classList.remove("at"); place = null; hide(); }
    const over = (event) => {
      const within = (cell) => event.clientX >= cell.left && event.clientX < cell.right;
      const first = box(0, 0);
      const line = Math.floor((event.clientY - first.top) / first.height);
      const column = cells.columns.findIndex((_, one) => within(box(0, one)));
      if (line >= 0 && line < cells.rows.length && column >= 0) at(line, column); else leave();
    };
    svg.addEventListener("pointermove", over);
    svg.addEventListener("pointerdown", over);
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      const [line, column] = place ?? [0, -step[1]];
      at(Math.max(0, Math.min(cells.rows.length - 1, line + step[0])), Math.max(0, Math.min(cells.columns.length - 1, column + step[1])));
    });
  }
  // galleries: sort the cards; agents: show one or all
  const press = (buttons, one) => { for (const other of buttons) other.setAttribute("aria-pressed", String(other === one)); };
  for (const figure of document.querySelectorAll(".figure-gallery")) {
    const list = figure.querySelector(".gallery");
    const choices = [...figure.querySelectorAll("[data-sort]")];
    for (const button of choices) {
      button.addEventListener("click", () => {
        const key = button.dataset.sort;
        const number = (card) => Number(card.dataset[key]);
        const order = {
          d: (a, b) => number(a) - number(b),
          name: (a, b) => a.dataset.name.localeCompare(b.dataset.name) || a.dataset.d - b.dataset.d,
        }[key] ?? ((a, b) => number(b) - number(a));
        list.append(...[...list.children].sort(order));
        list.scrollTop = 0;
        press(choices, button);
      });
    }
  }
  const shows = [...document.querySelectorAll("[data-show]")];
  const sections = [...document.querySelectorAll("section.agent")];
  const showing = (agent) => {
    for (const section of sections) section.hidden = agent !== "" && section.dataset.agent !== agent;
    press(shows, shows.find((button) => button.dataset.show === agent));
  };
  for (const button of shows) button.addEventListener("click", () => showing(button.dataset.show));
  addEventListener("hashchange", () => { // a link to a hidden agent shows it
    const target = sections.find((section) => "#" + section.id === location.hash);
    if (target?.hidden) { showing(""); target.scrollIntoView(); }
  });
  for (const image of document.querySelectorAll(".strongest img")) image.title = image.alt;
  // long tables are compressed: a click saves the CSV file itself where the browser can unpack it
  for (const link of document.querySelectorAll("a.rows[download$='.gz']")) {
    if (!window.DecompressionStream) continue;
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      const packed = Uint8Array.from(atob(link.href.split("base64,")[1]), (letter) => letter.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      const saved = document.createElement("a");
      saved.href = URL.createObjectURL(new Blob([await new Response(stream).arrayBuffer()], { type: "text/csv" }));
      saved.download = link.download.replace(/\.gz$/, "");
      saved.click();
    });
  }
  addEventListener("scroll", hide, { passive: true });
  addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
})();
