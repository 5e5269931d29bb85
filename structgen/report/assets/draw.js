// Elements, numbers and colours. Text of a run becomes text nodes, never markup.

function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A panel's title with what is pointed at beside it. */
function titled(title, readout) {
  return el("div", { className: "titled" }, el("h3", { textContent: title }), readout);
}

function num(value, digits) {
  return typeof value === "number" && Number.isFinite(value) ? value.toFixed(digits) : "–";
}

function seconds(value) {
  if (typeof value !== "number") return "–";
  if (value < 60) return `${value.toFixed(1)} s`;
  return value < 3600 ? `${(value / 60).toFixed(1)} min` : `${(value / 3600).toFixed(1)} h`;
}

const PLDDT = [[90, "#0053d6", "very high"], [70, "#65cbf3", "confident"], [50, "#ffdb13", "low"], [-Infinity, "#ff7d45", "very low"]];
const CHAINS = ["#3b78c3", "#e08a1e", "#3a9a62", "#b5508f", "#8a6bc1", "#a8502e", "#2f9aa0", "#8d8f2c", "#d4556b", "#5f6b7a"];
const BANDS = ["#08306b", "#2171b5", "#6baed6", "#b3cde3", "#dbe4ee"];

function plddtColour(value) {
  return PLDDT.find(([least]) => value >= least)[1];
}

function chainColour(index) {
  return CHAINS[index % CHAINS.length];
}

/** Dark green for 0, white for 30 angstrom and more: [r, g, b]. */
function paeColour(angstrom) {
  const x = Math.min(angstrom / 30, 1);
  return [Math.round(255 * x ** 1.2), Math.round(68 + 187 * x ** 0.75), Math.round(27 + 228 * x ** 1.2)];
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A 2-D context in CSS pixels on a canvas of the screen's own resolution. */
function context(canvas, width, height) {
  const ratio = Math.max(window.devicePixelRatio || 1, 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  return pen;
}

/** Call draw now, and again when the element's width or the theme changes; draws of an element that is gone end. */
function redrawn(element, draw) {
  let width = 0;
  const again = (force) => {
    if (!element.isConnected || !element.clientWidth || (!force && element.clientWidth === width)) return;
    width = element.clientWidth;
    draw(width);
  };
  new ResizeObserver(() => again(false)).observe(element);
  const themed = () => (element.isConnected ? again(true) : document.removeEventListener("themed", themed));
  document.addEventListener("themed", themed);
}

function download(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
