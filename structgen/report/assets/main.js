// The page starts: the table at once, the first job when the browser has drawn it.

function start() {
  startTheme();
  document.getElementById("run").textContent = INDEX.name;
  const done = ROWS.filter((row) => row.status === "done").length;
  document.getElementById("facts").textContent = [`${ROWS.length} job${ROWS.length === 1 ? "" : "s"}, ${done} done`, INDEX.model, `structgen ${INDEX.software}`].filter(Boolean).join(" · ");
  document.getElementById("print").onclick = () => window.print();
  document.getElementById("licence-link").onclick = () => { document.getElementById("licence").open = true; };
  startRejected();

  const stage = createStage();
  const table = startTable((number, focus) => open(number, focus));
  const job = createJobView(stage, (number, offset) => go(number, offset));
  let current = -1;

  function open(number, focus = false) {
    current = number;
    table.mark(number);
    const place = `#${encodeURIComponent(ROWS[number].slug)}`;
    if (location.hash !== place) history.replaceState(null, "", place);
    job.open(number, focus);
  }

  function go(number, offset) {
    const next = table.beside(number, offset);
    if (next !== undefined) open(next, true);
  }

  function named() {
    const slug = decodeURIComponent(location.hash.slice(1));
    return ROWS.findIndex((row) => row.slug === slug);
  }

  window.addEventListener("hashchange", () => { if (named() >= 0 && named() !== current) open(named()); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "/") { event.preventDefault(); document.getElementById("search").focus(); }
    if (event.key === "n" && current >= 0) go(current, 1);
    if (event.key === "p" && current >= 0) go(current, -1);
  });
  performance.mark("table-shown");
  if (ROWS.length) requestAnimationFrame(() => setTimeout(() => open(Math.max(named(), 0))));
}

function startRejected() {
  if (!INDEX.rejected.length) return;
  const place = document.getElementById("rejected");
  place.hidden = false;
  place.className = "note bad";
  place.append(el("h3", { textContent: `${INDEX.rejected.length} refused input${INDEX.rejected.length === 1 ? "" : "s"}` }), el("ul", {}, ...INDEX.rejected.map((text) => el("li", { textContent: text }))));
}

start();
