"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 8;

/* --- small helpers ------------------------------------------------------------------------------------------- */

function make(name, attributes = {}, text = "") {
  const drawn = ["svg", "path", "line", "text", "circle", "g", "rect"].includes(name);
  const element = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

function shown(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/* Round numbers that cover a range: about `count`, and two at least. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found.length < 2 ? ticks(low, high, count + 1) : found;
}

function powers(low, high) {
  const found = [];
  for (let exponent = Math.floor(Math.log10(low)); exponent <= Math.ceil(Math.log10(high)); exponent++)
    for (const factor of [1, 2, 5]) found.push(factor * 10 ** exponent);
  return found.filter(value => value >= low * 0.999 && value <= high * 1.001);
}

/* The exponential moving average, divided by the weight that its start at zero lacks. */
function smoothed(points, share) {
  let average = 0, weight = 0;
  return points.filter(([, value]) => value !== null).map(([epoch, value]) => {
    average = share * average + (1 - share) * value;
    weight = share * weight + (1 - share);
    return [epoch, average / weight];
  });
}

/* A picture of the atlas. */
function thumb(place, caption) {
  const { columns, rows } = data.atlas;
  const figure = make("figure"), picture = make("span", { class: "thumb", role: "img", "aria-label": caption });
  picture.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
  const x = columns > 1 ? (place % columns) / (columns - 1) * 100 : 0;
  const y = rows > 1 ? Math.floor(place / columns) / (rows - 1) * 100 : 0;
  picture.style.backgroundPosition = `${x}% ${y}%`;
  figure.append(picture, make("figcaption", {}, caption));
  return figure;
}

/* --- curves ------------------------------------------------------------------------------------------------- */

/* A chart for each metric that was measured, whatever its name, and one for the learning rate. */
function curves() {
  const { metrics, runs } = data.curves, form = document.querySelector("form[data-for=curves]"), hidden = new Set();
  form.addEventListener("submit", event => event.preventDefault());
  const series = runs.flatMap((run, number) => ["train", "valid"].map(split => ({
    key: `${number} ${split}`,
    label: (runs.length > 1 ? `${run.name}, ` : "") + (split === "train" ? "training" : "validation"),
    colour: `var(--c${(runs.length > 1 ? number : split === "train" ? 0 : 1) % COLOURS})`,
    dashed: split === "train",
    points: Object.fromEntries(metrics.map(metric => [metric.name, run[`${split}/${metric.name}`]])),
  })));
  const rates = runs.map((run, number) => ({
    key: `rate ${number}`, label: runs.length > 1 ? run.name : "learning rate", dashed: false, points: { learning_rate: run.learning_rate },
    colour: runs.length > 1 ? `var(--c${number % COLOURS})` : "var(--quiet)",
  }));
  const legend = document.getElementById("curves-legend");
  for (const one of series.filter(one => Object.values(one.points).some(Boolean))) {
    const button = make("button", { type: "button", "aria-pressed": "true" });
    const mark = make("i", { class: one.dashed ? "dashed" : "" });
    mark.style.borderColor = one.colour;
    button.append(mark, one.label);
    button.addEventListener("click", () => {
      if (!hidden.delete(one.key)) hidden.add(one.key);
      button.setAttribute("aria-pressed", String(!hidden.has(one.key)));
      draw();
    });
    legend.append(button);
  }
  function draw() {
    const share = Number(form.elements.smoothing.value);
    form.querySelector("output").textContent = share ? share.toFixed(2) : "0";
    const drawLines = (name, title, all, share, logarithmic, bounded) => {
      const lines = all.filter(one => one.points[name] && !hidden.has(one.key))
        .map(one => ({ ...one, points: smoothed(one.points[name], share) }));
      chart(document.querySelector(`[data-chart="${name}"]`), title, lines, logarithmic, bounded);
    };
    for (const { name, title, bounded } of metrics)
      drawLines(name, title, series, share, name === "loss" && form.elements.log.checked, bounded);
    drawLines("learning_rate", "learning rate", rates, 0, false, false);
  }
  form.addEventListener("input", draw);
  window.addEventListener("resize", draw);
  draw();
}

function chart(box, title, lines, logarithmic, bounded) {
  const low = box.classList.contains("low");
  const width = Math.max(box.clientWidth, 260), height = low ? 170 : Math.min(300, Math.max(220, width * 0.56));
  const left = 58, right = 12, top = 26, bottom = 32;
  box.replaceChildren();
  const points = lines.flatMap(line => line.points).filter(([, y]) => !logarithmic || y > 0);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  box.append(svg);
  svg.append(make("text", { x: 0, y: 13, class: "title" }, title));
  svg.setAttribute("aria-label", `${title} by epoch: ` + lines.map(line => {
    const last = line.points.at(-1);
    return last ? `${line.label} ends at ${shown(last[1])}` : line.label;
  }).join("; "));
  if (!points.length) { svg.append(make("text", { x: left, y: height / 2 }, "nothing to draw")); return; }
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
  if (logarithmic) { y0 /= 1.1; y1 *= 1.1; } else {
    const room = (y1 - y0) * 0.05 || Math.abs(y1) * 0.1 || 1;
    y1 = bounded ? Math.min(y1 + room, 1) : y1 + room;
    y0 = y0 >= 0 ? Math.max(y0 - room, 0) : y0 - room;
    if (y0 === y1) y0 -= room;
    if (!bounded && y0 < 0.25 * y1 && y0 > 0) y0 = 0;
  }
  const onY = logarithmic ? Math.log : (value => value);
  const X = value => left + (value - x0) / (x1 - x0) * (width - left - right);
  const Y = value => top + (onY(y1) - onY(value)) / (onY(y1) - onY(y0)) * (height - top - bottom);
  let marks = logarithmic ? powers(y0, y1) : ticks(y0, y1, low ? 4 : 6);
  if (logarithmic && marks.length > 8) marks = marks.filter(value => /^1(e|$)/.test(value.toExponential().replace(".0", "")));
  if (marks.length < 2) marks = ticks(y0, y1, 5);
  for (const value of marks) {
    svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: Y(value), y2: Y(value) }));
    svg.append(make("text", { x: left - 7, y: Y(value) + 4, "text-anchor": "end" }, shown(value)));
  }
  for (const value of ticks(x0, x1, Math.min(8, width / 70)).filter(Number.isInteger))
    svg.append(make("text", { x: X(value), y: height - bottom + 17, "text-anchor": "middle" }, shown(value)));
  svg.append(make("text", { x: width - right, y: height - 2, "text-anchor": "end" }, "epoch"));
  for (const line of lines) {
    const kept = line.points.filter(([, y]) => !logarithmic || y > 0);
    const path = kept.map(([x, y], place) => `${place ? "L" : "M"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`).join("");
    const attributes = { class: "line", d: path, stroke: line.colour, "data-key": line.key };
    if (line.dashed) attributes["stroke-dasharray"] = "5 4";
    svg.append(make("path", attributes));
    if (kept.length === 1) svg.append(make("circle", { cx: X(kept[0][0]), cy: Y(kept[0][1]), r: 3, fill: line.colour }));
  }
  const cross = make("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" }), tip = make("div", { class: "tip" });
  svg.append(cross);
  tip.hidden = true;
  box.append(tip);
  svg.addEventListener("pointermove", event => {
    const place = svg.getBoundingClientRect(), at = (event.clientX - place.left) * width / place.width;
    const epoch = xs.reduce((best, x) => Math.abs(X(x) - at) < Math.abs(X(best) - at) ? x : best, xs[0]);
    cross.setAttribute("x1", X(epoch));
    cross.setAttribute("x2", X(epoch));
    cross.setAttribute("visibility", "visible");
    tip.replaceChildren(make("b", {}, `epoch ${shown(epoch)}`));
    for (const line of lines) {
      const point = line.points.find(([x]) => x === epoch);
      if (point) tip.append(make("br"), `${line.label} ${shown(point[1])}`);
    }
    tip.hidden = false;
    tip.style.top = `${top}px`;
    const before = at > width / 2;
    tip.style.left = before ? "auto" : `${X(epoch) + 10}px`;
    tip.style.right = before ? `${width - X(epoch) + 10}px` : "auto";
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); });
}

/* --- confusion matrix ------------------------------------------------------------------------------------------ */

function confusion() {
  const box = document.getElementById("examples"), buttons = document.querySelectorAll("[data-cell]");
  function choose(button) {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    const found = data.confusion[button.dataset.cell] || [], total = Number(button.textContent);
    const more = found.length < total ? `, ${found.length} of them here` : "";
    const thumbs = make("div", { class: "thumbs" });
    for (const [place, caption] of found) thumbs.append(thumb(place, caption));
    box.replaceChildren(make("p", {}, `${button.getAttribute("aria-label")}${more}`), thumbs);
  }
  for (const button of buttons) button.addEventListener("click", () => choose(button));
  /* The most frequent mistake first. */
  const wrong = [...document.querySelectorAll(".wrong [data-cell]")].sort((a, b) => b.textContent - a.textContent);
  if (wrong.length) choose(wrong[0]);
}

/* --- feature maps ---------------------------------------------------------------------------------------------- */

function choices() {
  const buttons = document.querySelectorAll("[data-panel]");
  for (const button of buttons) button.addEventListener("click", () => {
    for (const other of buttons) {
      other.setAttribute("aria-pressed", String(other === button));
      document.getElementById(other.dataset.panel).hidden = other !== button;
    }
  });
}

/* --- embedding ------------------------------------------------------------------------------------------------- */

function embedding() {
  const { points, labels, names, wrong, captions, places } = data.embedding, width = 720, height = 430, room = 14;
  const colour = label => names.length <= 10
    ? ["#4c78d8", "#ef8a30", "#3fa363", "#d6549b", "#8b6cf0", "#17a2b5", "#b58f1d", "#d9534f", "#7f8fa6", "#9fbf2b"][label]
    : `hsl(${label * 360 / names.length} 65% 55%)`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "map of the test examples, coloured by label" });
  const circles = labels.map((label, index) => {
    const circle = make("circle", { r: wrong[index] ? 5 : 3.6, fill: colour(label) });
    if (wrong[index]) { circle.setAttribute("stroke", "var(--ink)"); circle.setAttribute("stroke-width", 2); }
    const show = () => document.getElementById("point").replaceChildren(thumb(places[index], captions[index]));
    circle.addEventListener("pointerenter", show);
    circle.addEventListener("click", show);
    return circle;
  });
  svg.append(...circles.filter((_, index) => !wrong[index]), ...circles.filter((_, index) => wrong[index]));
  document.getElementById("embedding-map").append(svg);
  const buttons = document.querySelectorAll("[data-method]");
  function place(method) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.method === method));
    circles.forEach((circle, index) => {
      const [x, y] = points[method][index];
      circle.setAttribute("cx", (room + x * (width - 2 * room)).toFixed(1));
      circle.setAttribute("cy", (height - room - y * (height - 2 * room)).toFixed(1));
    });
  }
  for (const button of buttons) button.addEventListener("click", () => place(button.dataset.method));
  place("t-SNE");
  /* A class of the legend alone, or all again. */
  const legend = document.getElementById("embedding-legend");
  let alone = null;
  const present = [...new Set(labels)].sort((a, b) => a - b).slice(0, 40);
  const entries = present.map(label => {
    const button = make("button", { type: "button", "aria-pressed": "true" }), dot = make("i", { class: "dot" });
    dot.style.background = colour(label);
    button.append(dot, names[label]);
    button.addEventListener("click", () => {
      alone = alone === label ? null : label;
      entries.forEach((entry, number) => entry.setAttribute("aria-pressed", String(alone === null || present[number] === alone)));
      circles.forEach((circle, index) => circle.classList.toggle("faint", alone !== null && labels[index] !== alone));
    });
    legend.append(button);
    return button;
  });
}

/* --- navigation: the section that is read is marked ------------------------------------------------------------- */

function mark() {
  const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.hash.slice(1), link])), seen = new Set();
  const observer = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) isIntersecting ? seen.add(target.id) : seen.delete(target.id);
    const first = [...links.keys()].find(id => seen.has(id));
    for (const [id, link] of links) id === first ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-10% 0px -60% 0px" });
  for (const id of links.keys()) observer.observe(document.getElementById(id));
}

if (data.curves) curves();
if (data.confusion) confusion();
if (data.embedding) embedding();
choices();
mark();
