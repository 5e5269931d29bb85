// Scores of a sample in tables: the whole, chains, pairs of chains, chemistry.

function scoreCards(score, { summary, extras }) {
  const clashes = (extras.interfaces ?? []).reduce((sum, pair) => sum + (pair.clashes ?? 0), 0);
  const cards = [
    ["Ranking score", num(score, 3), "Orders the samples: 0.8 ipTM + 0.2 pTM + 0.5 disorder - 100 for a clash"],
    ["Mean pLDDT", num(summary.mean_plddt, 1), "0-100, over atoms", plddtColour(summary.mean_plddt ?? 0)],
    ["pTM", num(summary.ptm, 2), "0-1, the whole structure"],
    ["ipTM", num(summary.iptm, 2), "0-1, between chains"],
    ["Clash", summary.has_clash ? "yes" : "no", extras.interfaces ? `${clashes} pairs of atoms of two chains closer than 1.1 Å` : ""],
    ["gPDE", `${num(summary.gpde, 2)} Å`, "Expected error of distances in contacts"],
    ["Disordered", num(summary.fraction_disordered, 2), "Share of residues"],
  ];
  return el("dl", { className: "cards" }, ...cards.map(([name, value, hint, colour]) => el("div", { title: hint }, el("dt", { textContent: name }), el("dd", {}, colour ? swatch(colour) : null, value))));
}

function chainTable(job, { summary, extras }) {
  const ids = summary.chain_ids ?? [];
  const geometry = extras.geometry ?? {};
  const share = (name, k) => (geometry[name]?.checked ? `${geometry[name].wrong[k]} / ${geometry[name].checked[k]}` : "–");
  const rows = ids.map((id, k) => {
    const about = job.facts.chains.find((chain) => chain.id === id) ?? {};
    const name = el("span", {}, swatch(chainColour(k)), id);
    return [name, about.kind ?? "–", num(about.residues, 0), num(about.rows, 0), num(summary.chain_plddt?.[k], 1), num(summary.chain_ptm?.[k], 2), num(summary.chain_iptm?.[k], 2), share("stereocentres", k), share("bonds", k), share("angles", k), share("double_bonds", k)];
  });
  const heads = ["Chain", "Kind", "Residues", "MSA rows", "pLDDT", "pTM", "ipTM", "Wrong hand", "Bonds off", "Angles off", "Double bonds off"];
  return el("div", { className: "panel" }, el("h3", { textContent: "Chains" }), grid2(heads, rows, 2), wrongList(geometry));
}

const WRONG = { stereocentres: "Stereocentres of the wrong hand", double_bonds: "Double bonds turned the wrong way", bonds: "Bonds of a wrong length", angles: "Angles off" };

function wrongList(geometry) {
  const lists = Object.entries(WRONG).filter(([name]) => geometry[name]?.first_wrong?.length);
  if (!lists.length) return null;
  const items = lists.map(([name, title]) => el("p", {}, el("b", { textContent: `${title}: ` }), geometry[name].first_wrong.join(", ") + (sum(geometry[name].wrong) > geometry[name].first_wrong.length ? ", …" : "")));
  return el("details", {}, el("summary", { textContent: "Where the chemistry is off" }), ...items);
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}

function pairPanel({ summary, extras }) {
  const ids = summary.chain_ids ?? [];
  if (ids.length < 2) return null;
  const parts = [];
  if (ids.length <= 26 && summary.chain_pair_iptm) parts.push(pairMatrix(ids, summary));
  if (extras.interfaces) {
    const rows = [...extras.interfaces].sort((a, b) => (b.iptm ?? -1) - (a.iptm ?? -1)).map((pair) => [pair.chains.join(" – "), num(pair.iptm, 2), num(pair.score, 2), num(pair.pae_min, 1), num(pair.pde_mean, 1), num(pair.pde_min, 1), num(pair.clashes, 0)]);
    parts.push(el("div", { className: "scroll" }, grid2(["Pair", "ipTM", "Score", "PAE min (Å)", "PDE mean (Å)", "PDE min (Å)", "Clashes"], rows, 1)));
  }
  return el("div", { className: "panel" }, el("h3", { textContent: "Pairs of chains" }), el("div", { className: "sides" }, ...parts));
}

function pairMatrix(ids, summary) {
  const head = el("tr", {}, el("td"), ...ids.map((id) => el("th", { scope: "col", textContent: id })));
  const lines = ids.map((id, row) => el("tr", {}, el("th", { scope: "row", textContent: id }), ...ids.map((other, column) => {
    const value = summary.chain_pair_iptm[row]?.[column];
    const cell = el("td", { className: "heat", textContent: num(value, 2), title: row === column ? `pTM of ${id}` : `${id} and ${other}: ipTM ${num(value, 2)}, lowest PAE ${num(summary.chain_pair_pae_min?.[row]?.[column], 1)} Å` });
    cell.style.setProperty("--share", typeof value === "number" ? value : 0);
    return cell;
  })));
  return el("table", { className: "matrix" }, el("caption", { className: "quiet", textContent: "ipTM of each pair; on the diagonal the chain's pTM" }), head, ...lines);
}

/** A small table; the first `words` columns are text, the others numbers. */
function grid2(heads, rows, words) {
  const kind = (k) => (k >= words ? "number" : "");
  const content = (value, k) => el(k ? "td" : "th", { className: kind(k), ...(k ? {} : { scope: "row" }) }, value);
  return el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((text, k) => el("th", { scope: "col", className: kind(k), textContent: text })))), el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(content)))));
}
