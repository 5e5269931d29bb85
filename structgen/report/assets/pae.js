// The predicted aligned error: row = the residue that is aligned on, column = the residue whose place is judged.

const PAE_LARGEST = 1200; // pixels of the picture's side; more tokens are averaged

function paePanel(sample, point) {
  const n = sample.arrays.pae.shape[0];
  const steps = restorePae(sample.arrays.pae);
  const [chain, number, ids] = [sample.arrays["token/chain"].data, sample.arrays["token/number"].data, sample.facts.token_chains];
  const label = (token) => `${ids[chain[token]]} ${number[token]}`;
  const picture = paePicture(steps, n);
  const canvas = el("canvas", { tabIndex: 0, role: "img", "aria-label": paeSummary(steps, chain, ids, n) });
  const readout = el("output", { className: "readout", "aria-live": "polite", textContent: "point at the picture, or use the arrow keys" });
  const at = { row: -1, column: -1 };
  let frame = null;

  function draw(width) {
    const [left, top, right, bottom] = [46, 20, 6, 34];
    const side = Math.max(Math.min(width - left - right, 520), 60);
    const pen = context(canvas, width, side + top + bottom);
    frame = { left, top, side };
    pen.imageSmoothingEnabled = n > side * 2;
    pen.drawImage(picture, left, top, side, side);
    borders(pen, frame);
    if (at.row >= 0) crosshair(pen, frame);
  }

  function borders(pen, { left, top, side }) {
    const starts = chainStarts(chain, n);
    pen.strokeStyle = css("--ink");
    pen.fillStyle = css("--ink");
    pen.lineWidth = 1;
    pen.strokeRect(left, top, side, side);
    pen.textBaseline = "middle";
    let [lastX, lastY] = [-Infinity, -Infinity];
    starts.forEach(([start, end, index]) => {
      const [from, middle] = [(start / n) * side, ((start + end) / 2 / n) * side];
      if (start > 0) {
        stroke(pen, left + from, top, left + from, top + side);
        stroke(pen, left, top + from, left + side, top + from);
      }
      const [name, half] = [ids[index], pen.measureText(ids[index]).width / 2];
      if (left + middle - half > lastX + 4) { pen.textAlign = "center"; pen.fillText(name, left + middle, top - 9); lastX = left + middle + half; }
      if (top + middle - 6 > lastY + 2) { pen.textAlign = "right"; pen.fillText(name, left - 7, top + middle); lastY = top + middle + 6; }
    });
    pen.fillStyle = css("--quiet");
    pen.textAlign = "center";
    pen.fillText("scored residue", left + side / 2, top + side + 12);
    pen.save();
    pen.translate(12, top + side / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText("aligned residue", 0, 0);
    pen.restore();
  }

  function crosshair(pen, { left, top, side }) {
    const [x, y] = [left + ((at.column + 0.5) / n) * side, top + ((at.row + 0.5) / n) * side];
    pen.strokeStyle = "#e0447c";
    stroke(pen, left, y, left + side, y);
    stroke(pen, x, top, x, top + side);
  }

  function show(row, column) {
    [at.row, at.column] = [Math.max(0, Math.min(n - 1, row)), Math.max(0, Math.min(n - 1, column))];
    const value = steps[at.row * n + at.column];
    const text = value === PAE_UNDEFINED ? "undefined" : `${(value * PAE_STEP).toFixed(1)} Å`;
    readout.textContent = `aligned on ${label(at.row)}, scored ${label(at.column)}: ${text}`;
    point([at.row, at.column].map((token) => ({ chain: ids[chain[token]], number: number[token] })));
    draw(canvas.clientWidth);
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left - frame.left) / frame.side, (event.clientY - box.top - frame.top) / frame.side];
    if (x >= 0 && x < 1 && y >= 0 && y < 1) show(Math.floor(y * n), Math.floor(x * n));
  });
  canvas.addEventListener("pointerleave", () => { at.row = -1; point([]); draw(canvas.clientWidth); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const size = event.shiftKey ? 10 : 1;
    show(Math.max(at.row, 0) + move[0] * size, Math.max(at.column, 0) + move[1] * size);
  });
  redrawn(canvas, draw);
  return el("div", { className: "panel" }, titled("Predicted aligned error", readout), canvas, paeScale());
}

function stroke(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
  pen.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  pen.stroke();
}

/** [first token, token after the last, chain] of each run of tokens of one chain. */
function chainStarts(chain, n) {
  const runs = [];
  for (let start = 0, k = 1; k <= n; k++) if (k === n || chain[k] !== chain[start]) { runs.push([start, k, chain[start]]); start = k; }
  return runs;
}

function paePicture(steps, n) {
  const bin = Math.ceil(n / PAE_LARGEST);
  const side = Math.ceil(n / bin);
  const picture = el("canvas", { width: side, height: side });
  const pen = picture.getContext("2d");
  const image = pen.createImageData(side, side);
  const colours = Array.from({ length: 256 }, (_, step) => (step === PAE_UNDEFINED ? [128, 128, 128] : paeColour(step * PAE_STEP)));
  for (let row = 0; row < side; row++) for (let column = 0; column < side; column++) {
    image.data.set([...colours[binned(steps, n, row * bin, column * bin, bin)], 255], (row * side + column) * 4);
  }
  pen.putImageData(image, 0, 0);
  return picture;
}

function binned(steps, n, row, column, bin) {
  if (bin === 1) return steps[row * n + column];
  let [sum, count] = [0, 0];
  for (let r = row; r < Math.min(row + bin, n); r++) for (let c = column; c < Math.min(column + bin, n); c++) {
    const step = steps[r * n + c];
    if (step !== PAE_UNDEFINED) { sum += step; count++; }
  }
  return count ? Math.round(sum / count) : PAE_UNDEFINED;
}

/** The picture in words: means within and between chains. */
function paeSummary(steps, chain, ids, n) {
  const runs = chainStarts(chain, n).slice(0, 4);
  const parts = runs.flatMap((a) => runs.map((b) => `${ids[a[2]]} to ${ids[b[2]]} ${blockMean(steps, n, a, b)} Å`));
  return `Predicted aligned error of ${n} tokens. Mean by chains: ${parts.join(", ")}. Arrow keys move over it, with shift by 10.`;
}

function blockMean(steps, n, [r0, r1], [c0, c1]) {
  let [sum, count] = [0, 0];
  for (let row = r0; row < r1; row++) for (let column = c0; column < c1; column++) {
    const step = steps[row * n + column];
    if (step !== PAE_UNDEFINED) { sum += step; count++; }
  }
  return count ? ((sum / count) * PAE_STEP).toFixed(1) : "undefined";
}

function paeScale() {
  const canvas = el("canvas", { className: "ramp", width: 120, height: 1, "aria-hidden": "true" });
  const pen = canvas.getContext("2d");
  for (let x = 0; x < 120; x++) { pen.fillStyle = `rgb(${paeColour((x / 119) * 30).join()})`; pen.fillRect(x, 0, 1, 1); }
  return el("p", { className: "legend" }, "0 Å ", canvas, " 30 Å");
}
