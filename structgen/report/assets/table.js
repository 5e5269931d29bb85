// The table of all jobs: sorted, searched, and filled as it is scrolled.

const COLUMNS = [
  { key: "rank", title: "#", hint: "Rank by ranking score", number: true, text: (row) => String(row.number + 1) },
  { key: "name", title: "Job" },
  { key: "status", title: "Status" },
  { key: "score", title: "Score", hint: "Ranking score of the best sample", number: true, down: true, text: (row) => num(row.score, 3) },
  { key: "plddt", title: "pLDDT", hint: "Mean over the atoms of the best sample, 0-100", number: true, down: true, text: (row) => num(row.plddt, 1) },
  { key: "ptm", title: "pTM", number: true, down: true, text: (row) => num(row.ptm, 2) },
  { key: "iptm", title: "ipTM", hint: "Of a single chain there is none", number: true, down: true, text: (row) => num(row.iptm, 2) },
  { key: "clash", title: "Clash", hint: "Whether the best sample has chains that run through each other", number: true, text: (row) => (row.clash === null ? "–" : row.clash ? "yes" : "no") },
  { key: "stereo", title: "Wrong hand", hint: "Stereocentres of the best sample that are the mirror image", number: true, text: (row) => num(row.stereo, 0) },
  { key: "chains", title: "Chains", number: true, text: (row) => num(row.chains, 0) },
  { key: "tokens", title: "Tokens", hint: "Residues and ligand atoms", number: true, down: true, text: (row) => num(row.tokens, 0) },
  { key: "depth", title: "MSA", hint: "Rows of the shallowest alignment among the chains; 1 is the sequence alone", number: true, down: true, text: (row) => num(row.depth, 0) },
  { key: "samples", title: "Samples", number: true, down: true, text: (row) => num(row.samples, 0) },
  { key: "seconds", title: "Time", hint: "All stages together", number: true, down: true, text: (row) => seconds(row.seconds) },
];
const CHUNK = 120; // rows that are made at once

function startTable(open) {
  const [head, body] = [document.querySelector("#table thead"), document.querySelector("#table tbody")];
  const [search, status, scroll] = ["search", "status", "scroll"].map((id) => document.getElementById(id));
  const state = { key: "rank", down: false, shown: [], filled: 0, current: -1 };

  head.append(el("tr", {}, ...COLUMNS.map((column) => heading(column, state, refresh))));
  status.append(el("option", { value: "", textContent: "All statuses" }));
  for (const name of new Set(ROWS.map((row) => row.status))) {
    status.append(el("option", { value: name, textContent: `${name} (${ROWS.filter((row) => row.status === name).length})` }));
  }

  function refresh() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.shown = ROWS.filter((row) => (!status.value || row.status === status.value) && words.every((word) => haystack(row).includes(word)));
    state.shown.sort(order(state));
    state.filled = 0;
    body.replaceChildren();
    fill();
    for (const cell of head.querySelectorAll("th")) cell.setAttribute("aria-sort", cell.dataset.key !== state.key ? "none" : state.down ? "descending" : "ascending");
    const all = ROWS.length;
    document.getElementById("count").textContent = state.shown.length === all ? `${all} job${all === 1 ? "" : "s"}` : `${state.shown.length} of ${all} jobs`;
  }

  function fill() {
    const rows = state.shown.slice(state.filled, state.filled + CHUNK).map((row) => line(row, row.number === state.current, open));
    state.filled += rows.length;
    body.append(...rows);
  }

  scroll.addEventListener("scroll", () => {
    if (state.filled < state.shown.length && scroll.scrollTop + scroll.clientHeight > scroll.scrollHeight - 600) fill();
  }, { passive: true });
  search.addEventListener("input", refresh);
  status.addEventListener("change", refresh);
  body.addEventListener("keydown", (event) => step(event, body, fill));
  document.getElementById("csv").onclick = () => download(`${INDEX.name}.csv`, [csv(state.shown)], "text/csv");
  refresh();

  return {
    /** Mark the row of the open job. */
    mark(number) {
      state.current = number;
      for (const row of body.querySelectorAll("tr")) row.classList.toggle("current", Number(row.dataset.number) === number);
      for (const button of body.querySelectorAll("button")) button.toggleAttribute("aria-current", Number(button.closest("tr").dataset.number) === number);
    },
    /** The job before (-1) or after (+1) another in the order that is shown, or undefined. */
    beside(number, offset) {
      const at = state.shown.findIndex((row) => row.number === number);
      return at < 0 ? undefined : state.shown[at + offset]?.number;
    },
  };
}

function heading(column, state, refresh) {
  const button = el("button", { type: "button", textContent: column.title, title: column.hint ?? "" });
  button.onclick = () => {
    state.down = state.key === column.key ? !state.down : Boolean(column.down);
    state.key = column.key;
    refresh();
  };
  const cell = el("th", { scope: "col", className: column.number ? "number" : "" }, button);
  cell.dataset.key = column.key;
  return cell;
}

function haystack(row) {
  row.haystack ??= `${row.name}\n${row.slug}\n${row.source}\n${row.note}`.toLowerCase();
  return row.haystack;
}

/** What is not there comes last, whichever way the rest is sorted. */
function order({ key, down }) {
  const value = key === "rank" ? (row) => row.number : (row) => row[key];
  const text = new Intl.Collator(undefined, { numeric: true });
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null || x === y) return x === y ? a.number - b.number : x === null ? 1 : -1;
    const sign = typeof x === "number" ? x - y : text.compare(x, y);
    return (down ? -sign : sign) || a.number - b.number;
  };
}

function line(row, current, open) {
  const cells = COLUMNS.map((column) => cell(row, column, open));
  const made = el("tr", { className: current ? "current" : "", onclick: () => open(row.number) }, ...cells);
  made.dataset.number = row.number;
  return made;
}

function cell(row, column, open) {
  if (column.key === "name") {
    const button = el("button", { type: "button", className: "link", textContent: row.name, title: row.source });
    button.onclick = (event) => { event.stopPropagation(); open(row.number, true); };
    return el("th", { scope: "row" }, button);
  }
  if (column.key === "status") return el("td", {}, el("span", { className: `badge ${row.status}`, textContent: row.status, title: row.note }));
  const made = el("td", { className: column.number ? "number" : "", textContent: column.text(row) });
  if (column.key === "plddt" && row.plddt !== null) made.prepend(swatch(plddtColour(row.plddt)));
  if (column.key === "clash" && row.clash) made.classList.add("bad");
  return made;
}

function swatch(colour) {
  const made = el("span", { className: "swatch", "aria-hidden": "true" });
  made.style.background = colour;
  return made;
}

/** Arrow keys go from job to job. */
function step(event, body, fill) {
  const offset = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest("tr");
  if (!offset || !row) return;
  event.preventDefault();
  if (offset > 0 && !row.nextElementSibling) fill();
  (offset > 0 ? row.nextElementSibling : row.previousElementSibling)?.querySelector("button").focus();
}

function csv(rows) {
  const quote = (value) => {
    const text = String(value ?? "");
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // a spreadsheet would run it
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [INDEX.columns, ...rows.map((row) => INDEX.columns.map((name) => row[name]))].map((line) => line.map(quote).join(",")).join("\r\n") + "\r\n";
}
