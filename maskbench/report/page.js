(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes = {}, text = "") => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  document.documentElement.classList.add("js");

  // Tabs: views of one leaderboard

  const pick = (tab) => {
    const box = tab.closest("[data-tabs]");
    for (const other of all(".tab", box)) other.hidden = other !== tab;
    for (const button of all("[role=tab]", box)) {
      const chosen = button.getAttribute("aria-controls") === tab.id;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
  };
  for (const box of all("[data-tabs]")) {
    const tabs = all(".tab", box);
    if (tabs.length < 2) continue;
    const list = make("div", { role: "tablist", "aria-label": "Equal budgets in" });
    tabs.forEach((tab, rank) => {
      const button = make("button", { role: "tab", type: "button", id: `${tab.id}-tab`,
        "aria-controls": tab.id }, tab.dataset.title);
      tab.setAttribute("role", "tabpanel");
      tab.setAttribute("aria-labelledby", button.id);
      button.addEventListener("click", () => pick(tab));
      button.addEventListener("keydown", (event) => {
        const to = { ArrowRight: rank + 1, ArrowLeft: rank - 1, Home: 0, End: -1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const next = all("[role=tab]", list).at(to % tabs.length);
        next.focus();
        next.click();
      });
      list.append(button);
    });
    tabs[0].before(list);
    box.classList.add("tabbed");
    pick(tabs[0]);
  }

  // Deep links: whatever hides the target is opened

  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));  // ids are ASCII
    if (!target) return;
    for (let node = target; node; node = node.parentElement) {
      if (node.localName === "details") node.open = true;
      if (node.classList.contains("tab") && node.hidden) pick(node);
    }
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);

  // Sorting

  const UNITS = { ms: 1e-3, s: 1, min: 60, h: 3600, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
  const NUMBER = /^[\s≥≤<>[]*([+-]?\d*\.?\d+(?:e[+-]?\d+)?)\s*([a-zA-Z]+)?/;
  const number = (cell) => {
    if (cell.dataset.value) return Number(cell.dataset.value);
    const found = (cell.firstChild?.textContent ?? "").replaceAll("−", "-").replaceAll(",", "").match(NUMBER);
    return found ? Number(found[1]) * (UNITS[found[2]] ?? 1) : NaN;
  };
  const empty = (cell) => ["", "–"].includes(cell.textContent.trim());
  // Ties keep their order, and cells without a value are last, either way
  const sorted = (rows, column, numeric, sign) => {
    const value = (row) => (numeric ? number(row.cells[column]) : row.cells[column].textContent);
    const lacks = (row) => (numeric ? Number.isNaN(value(row)) : empty(row.cells[column]));
    const known = rows.filter((row) => !lacks(row));
    known.sort((a, b) => sign * (numeric ? value(a) - value(b) : value(a).localeCompare(value(b))));
    return [...known, ...rows.filter(lacks)];
  };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const before = [...body.rows];
    if (before.length < 2) continue;
    [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((head, column) => {
      const button = make("button", { type: "button", class: "sort" }, head.textContent);
      const numeric = before.some((row) => !Number.isNaN(number(row.cells[column])))
        && head.classList.contains("n");
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const order = was === "ascending" ? "descending" : was === "descending" ? "" : "ascending";
        for (const other of all("[aria-sort]", table)) other.removeAttribute("aria-sort");
        const sign = order === "ascending" ? 1 : -1;
        const rows = order ? sorted(before, column, numeric, sign) : before;
        if (order) head.setAttribute("aria-sort", order);
        body.append(...rows);
      });
    });
  }

  // Filter by strategy

  const strategies = [...new Set(all(".leaderboard [data-strategy]").map((row) => row.dataset.strategy))];
  if (strategies.length > 1) {
    const shown = new Set(strategies);
    const rows = all("main tbody tr").map((row) => {
      const text = (row.dataset.strategy ?? row.cells[0].textContent).trim();
      return [row, strategies.find((name) => text === name || text.startsWith(`${name}: `))];
    });
    const others = all("main [data-strategy]:not(tr)").map((node) => [node, node.dataset.strategy]);
    const box = make("details", { class: "filter" });
    const said = make("summary", { "aria-live": "polite" });
    const set = make("fieldset");
    set.append(make("legend", {}, "Strategies in tables and pictures; figures with curves show all of them"));
    const apply = () => {
      for (const [node, name] of [...rows, ...others]) if (name) node.hidden = !shown.has(name);
      said.textContent = shown.size === strategies.length
        ? `Filter: all ${strategies.length} strategies`
        : `Filter: ${shown.size} of ${strategies.length} strategies`;
    };
    for (const name of strategies) {
      const label = make("label");
      const check = make("input", { type: "checkbox", value: name });
      check.checked = true;
      check.addEventListener("change", () => {
        if (check.checked) shown.add(name);
        else shown.delete(name);
        apply();
      });
      label.append(check, ` ${name}`);
      set.append(label);
    }
    box.append(said, set);
    document.getElementById("tools").append(box);
    apply();
  }

  // Copy

  for (const box of all(".copy")) {
    const button = make("button", { type: "button" }, "Copy");
    const told = make("span", { role: "status" });
    button.addEventListener("click", async () => {
      const text = box.querySelector("pre").textContent;
      try {
        await navigator.clipboard.writeText(text);
        told.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(box.querySelector("pre"));
        told.textContent = document.execCommand("copy") ? "copied" : "selected: copy with Ctrl+C";
      }
    });
    box.querySelector("p").append(" ", button, " ", told);
  }

  // The mask player

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const picture = (uri, ready) => {
    const image = new Image();
    image.addEventListener("load", ready);
    image.src = uri;
    return image;
  };
  const play = (box) => {
    const data = JSON.parse(box.querySelector("script").textContent);
    const slider = box.querySelector("input[type=range]");
    const source = box.querySelector("select");
    const layers = all("input[type=radio]", box);
    const canvases = all("canvas", box);
    const { count, rows, gap } = data;
    const tile = rows * Math.max(1, Math.floor(80 / rows));
    const cell = tile / rows;
    const lut = bytes(data.colours);
    const hidden = (bits, patch) => (bits[patch >> 3] >> (7 - (patch & 7))) & 1;
    const left = (index) => index * (tile + gap);
    const tiles = (pen, image, side) => {
      if (!image?.complete || !image.naturalWidth) return;
      pen.imageSmoothingEnabled = side > tile;
      for (let i = 0; i < count; i += 1) {
        pen.drawImage(image, i * side, 0, side, side, left(i), 0, tile, tile);
      }
    };
    const patches = (paint) => {
      for (let i = 0; i < count; i += 1) {
        for (let patch = 0; patch < rows * rows; patch += 1) {
          const [row, column] = [Math.floor(patch / rows), patch % rows];
          paint(i * rows * rows + patch, left(i) + column * cell, row * cell);
        }
      }
    };
    const image = picture(data.image, () => draw());
    const sprites = data.strategies.map((one) => ({
      rebuilt: one.rebuilt?.map((uri) => picture(uri, () => draw())),
      bits: one.hidden.map(bytes),
      maps: Object.fromEntries(Object.entries(one.saliency).map(([name, map]) => [name, bytes(map)])),
    }));
    const draw = () => {
      const share = data.shares[slider.value];
      const layer = layers.find((radio) => radio.checked).value;
      canvases.forEach((canvas) => {
        const one = data.strategies[canvas.dataset.rank];
        const sprite = sprites[canvas.dataset.rank];
        const near = one.shares.map((other) => Math.abs(other - share));
        const at = near.indexOf(Math.min(...near));
        canvas.width = left(count) - gap;
        canvas.height = tile;
        const pen = canvas.getContext("2d");
        const map = sprite.maps[source?.value];
        if (layer === "saliency" && map) {
          patches((patch, x, y) => {
            pen.fillStyle = `rgb(${lut.slice(3 * map[patch], 3 * map[patch] + 3).join(" ")})`;
            pen.fillRect(x, y, cell, cell);
          });
        } else if (layer === "reconstruction" && sprite.rebuilt) tiles(pen, sprite.rebuilt[at], data.rebuilt_side);
        else tiles(pen, image, data.side);
        if (layer === "mask" || layer === "saliency") {
          pen.strokeStyle = layer === "mask" ? "#8c8c8c" : "#ffffff";
          pen.fillStyle = "#dedede";
          pen.lineWidth = 1;
          patches((patch, x, y) => {
            if (!hidden(sprite.bits[at], patch)) return;
            if (layer === "mask") {
              pen.fillRect(x, y, cell, cell);
              pen.beginPath();
              pen.moveTo(x + 0.2 * cell, y + 0.8 * cell);
              pen.lineTo(x + 0.8 * cell, y + 0.2 * cell);
              pen.stroke();
            } else pen.strokeRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
          });
        }
        const what = { image: "the images", mask: "the images with hidden patches covered",
          reconstruction: "reconstructions", saliency: `saliency by ${source?.value}` }[layer];
        const missing = (layer === "reconstruction" && !sprite.rebuilt) || (layer === "saliency" && !map);
        canvas.setAttribute("aria-label", `${one.label} at ${one.words[at]}: ${missing ? "not recorded, the images instead" : what}`);
        canvas.closest("figure").querySelector(".told").textContent = ` at ${one.words[at]}${missing ? "; not recorded for this run, or not of all these images: the images are shown" : ""}`;
      });
      const words = `${(100 * share).toPrecision(3).replace(/\.0+$/, "")} % of the budget`;
      box.querySelector("output").textContent = words;
      slider.setAttribute("aria-valuetext", words);
      const line = box.querySelector(".now");
      if (line) {
        const x = Number(line.dataset.left) + share * Number(line.dataset.wide);
        line.setAttribute("x1", x);
        line.setAttribute("x2", x);
      }
    };
    box.hidden = false;
    box.closest("section").querySelector("details.static").open = false;
    slider.addEventListener("input", draw);
    for (const radio of layers) radio.addEventListener("change", draw);
    source?.addEventListener("change", () => {
      layers.find((radio) => radio.value === "saliency").checked = true;
      draw();
    });
    draw();
  };
  for (const box of all(".player")) {
    const folded = box.closest("details.more:not([open])");
    if (folded) folded.addEventListener("toggle", () => play(box), { once: true });
    else play(box);
  }
  reveal();
})();
