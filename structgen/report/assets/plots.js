// Plots along the residues of all chains, on one axis: pLDDT, and the depth of the alignments.

const EDGE = { left: 46, right: 8, top: 8, bottom: 22 };

/** Residues of a sample as a list: chain, number, component, pLDDT. */
function residuesOf(sample) {
  const { arrays, facts } = sample;
  const [chain, number, component, plddt] = ["chain", "number", "component", "plddt"].map((name) => arrays[`residue/${name}`].data);
  return Array.from(chain, (index, k) => ({ index, chain: facts.chains[index], number: number[k], component: facts.components[component[k]], plddt: plddt[k] / 100 }));
}

function plddtPlot(residues, point) {
  const mean = residues.reduce((sum, residue) => sum + residue.plddt, 0) / residues.length;
  const low = residues.filter((residue) => residue.plddt < 50).length;
  const label = `pLDDT of ${residues.length} residues: mean ${mean.toFixed(1)}, ${low} below 50. Left and right arrow keys move over it.`;
  const draw = (pen, box) => {
    grid(pen, box, 100, [0, 50, 70, 90]);
    bars(residues.length, box, (from, to, x, width) => {
      const value = residues.slice(from, to).reduce((sum, residue) => sum + residue.plddt, 0) / (to - from);
      pen.fillStyle = plddtColour(value);
      pen.fillRect(x, box.top + box.height * (1 - value / 100), width, (box.height * value) / 100);
    });
  };
  const say = (residue) => `${residue.chain} ${residue.number} ${residue.component}: pLDDT ${residue.plddt.toFixed(1)}`;
  return residuePlot("pLDDT", label, residues, draw, say, point, plddtLegend());
}

function plddtLegend() {
  const ranges = ["90-100", "70-90", "50-70", "0-50"];
  return legend(PLDDT.map(([, colour, words], k) => [colour, `${words} (${ranges[k]})`]));
}

/** Rows of the alignment over every residue, the closest relatives at the bottom. */
function depthPlot(job, residues, point) {
  const order = job.facts.chains.map((chain) => chain.id);
  const counts = residues.map((residue) => {
    const found = job.arrays[`coverage/${order.indexOf(residue.chain)}`];
    const column = residue.number - 1;
    return found && column < found.shape[1] ? BANDS.map((_, band) => found.data[band * found.shape[1] + column]) : null;
  });
  const known = counts.filter(Boolean).map((bands) => bands.reduce((a, b) => a + b, 0));
  if (!known.length) return depthAbsent(job);
  const most = known.reduce((a, b) => Math.max(a, b), 1);
  const draw = (pen, box) => {
    grid(pen, box, most, ticks(most));
    bars(residues.length, box, (from, to, x, width) => {
      let y = box.top + box.height;
      BANDS.forEach((colour, band) => {
        const height = (box.height * counts.slice(from, to).reduce((sum, bands) => sum + (bands?.[band] ?? 0), 0)) / (to - from) / most;
        pen.fillStyle = colour;
        pen.fillRect(x, y - height, width, height);
        y -= height;
      });
    });
  };
  const say = (residue, k) => `${residue.chain} ${residue.number} ${residue.component}: ${counts[k] ? `${counts[k].reduce((a, b) => a + b, 0)} rows` : "no alignment"}`;
  const shares = job.facts.bands.map((least, k) => (k ? `${100 * least}-${100 * job.facts.bands[k - 1]} %` : `over ${100 * least} %`));
  const parts = legend(BANDS.map((colour, band) => [colour, shares[band]]), "identity to the query: ");
  const label = `Rows of the alignment over each residue: from ${known.reduce((a, b) => Math.min(a, b), Infinity)} to ${most}. Left and right arrow keys move over it.`;
  return residuePlot("Alignment depth", label, residues, draw, say, point, parts);
}

function depthAbsent(job) {
  const depths = job.facts.chains.filter((chain) => chain.rows !== null && chain.kind !== "ligand").map((chain) => `${chain.id}: ${chain.rows}`);
  const why = job.facts.chains.some((chain) => chain.rows > 1) ? "How they lie over the residues is not known here: the run's store is gone or elsewhere." : "Every chain was predicted from its sequence alone.";
  return el("div", { className: "panel" }, el("h3", { textContent: "Alignment depth" }), el("p", { textContent: `Rows by chain: ${depths.join(", ") || "none"}. ${why}` }));
}

function residuePlot(title, label, residues, draw, say, point, parts) {
  const canvas = el("canvas", { tabIndex: 0, role: "img", "aria-label": label });
  const readout = el("output", { className: "readout", "aria-live": "polite" });
  const [n, height] = [residues.length, 150];
  let [box, at] = [null, -1];

  function redraw(width) {
    const pen = context(canvas, width, height);
    box = { left: EDGE.left, top: EDGE.top, width: width - EDGE.left - EDGE.right, height: height - EDGE.top - EDGE.bottom };
    draw(pen, box);
    strips(pen, box, residues);
    if (at >= 0) { pen.strokeStyle = "#e0447c"; const x = box.left + ((at + 0.5) / n) * box.width; stroke(pen, x, box.top, x, box.top + box.height); }
  }

  function show(k) {
    at = Math.max(0, Math.min(n - 1, k));
    readout.textContent = say(residues[at], at);
    point([residues[at]]);
    redraw(canvas.clientWidth);
  }

  canvas.addEventListener("pointermove", (event) => {
    const x = (event.clientX - canvas.getBoundingClientRect().left - box.left) / box.width;
    if (x >= 0 && x < 1) show(Math.floor(x * n));
  });
  canvas.addEventListener("pointerleave", () => { at = -1; readout.textContent = ""; point([]); redraw(canvas.clientWidth); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    show(Math.max(at, 0) + move * (event.shiftKey ? 10 : 1));
  });
  redrawn(canvas, redraw);
  return el("div", { className: "panel" }, titled(title, readout), canvas, parts);
}

/** Bars of at least a pixel: each call gets the residues [from, to) that share one. */
function bars(n, box, bar) {
  const count = Math.min(n, Math.max(Math.floor(box.width), 1));
  for (let k = 0; k < count; k++) {
    const [from, to] = [Math.floor((k * n) / count), Math.floor(((k + 1) * n) / count)];
    bar(from, to, box.left + (k * box.width) / count, box.width / count + 0.4);
  }
}

function grid(pen, box, most, values) {
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const value of values) {
    const y = box.top + box.height * (1 - value / most);
    pen.strokeStyle = css("--line");
    stroke(pen, box.left, y, box.left + box.width, y);
    pen.fillStyle = css("--quiet");
    pen.fillText(String(value), box.left - 6, y);
  }
}

function ticks(most) {
  const raw = most / 4;
  const unit = 10 ** Math.floor(Math.log10(Math.max(raw, 1)));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= raw) ?? 1;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, k) => k * step);
}

/** A strip of the chains' colours and names under a plot. */
function strips(pen, box, residues) {
  const n = residues.length;
  pen.textBaseline = "middle";
  pen.textAlign = "center";
  for (const [start, end, index] of chainStarts(residues.map((residue) => residue.index), n)) {
    const [x, width] = [box.left + (start / n) * box.width, ((end - start) / n) * box.width];
    pen.fillStyle = chainColour(index);
    pen.fillRect(x, box.top + box.height + 3, Math.max(width - 1, 1), 4);
    pen.fillStyle = css("--quiet");
    if (width > 14) pen.fillText(width > 90 ? `${residues[start].chain} · ${end - start} residues` : residues[start].chain, x + width / 2, box.top + box.height + 15, width);
  }
}

function legend(parts, title = "") {
  return el("p", { className: "legend" }, title, ...parts.map(([colour, words]) => el("span", { className: "key" }, swatch(colour), words)));
}
