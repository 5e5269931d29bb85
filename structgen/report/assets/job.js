// One job, opened: its samples, pictures, scores, files and words.

const STAGES = { search: "Search", featurise: "Featurise", fold: "Fold", write: "Write" };

function createJobView(stage, go) {
  const section = document.getElementById("job");
  let turn = 0; // of openings: what arrives late for an earlier one is dropped

  async function open(number, focus) {
    const mine = ++turn;
    const row = ROWS[number];
    const title = el("h2", { textContent: row.name, tabIndex: -1 });
    const body = el("div", { className: "body" }, el("p", { className: "quiet", textContent: "Loading …" }));
    section.replaceChildren(jobHead(row, title, go), body);
    if (focus) title.focus({ preventScroll: true });
    if (focus) section.scrollIntoView({ block: "start" });
    const job = await attempt(() => load(`job${number}`), body);
    if (mine !== turn || !job) return;
    if (job.facts.samples.length) await showSamples(job, row, body, () => mine === turn);
    else body.replaceChildren(...words(job, row));
  }

  async function showSamples(job, row, body, current) {
    const place = el("div");
    const pick = (k) => attempt(() => showSample(job, row, k, place, current), place);
    body.replaceChildren(sampleChoice(job.facts.samples, pick), place);
    await pick(0);
  }

  let picked = 0;

  async function showSample(job, row, k, place, current) {
    const mine = ++picked;
    const about = job.facts.samples[k];
    const scores = { summary: scoreFile(job, about, "summary_confidences.json"), extras: scoreFile(job, about, "extras.json") };
    const sample = await load(`job${row.number}-${k}`);
    if (!current() || mine !== picked) return;
    const text = sample?.arrays.cif && byRows(sample.arrays.cif.data, sample.facts.files.cif.blocks);
    const pictures = sample ? await pictureParts(job, sample, text) : [absent(about)];
    place.replaceChildren(scoreCards(about.score, scores), files(job, about, sample, text), ...pictures, chainTable(job, scores), pairPanel(scores), ...words(job, row));
    if (text) await stage.show(text, sample.facts.chains, about.stem);
    performance.mark("job-shown");
  }

  async function pictureParts(job, sample, text) {
    const residues = text ? residuesOf(sample) : [];
    const top = el("div", { className: "pair" }, text ? stage.panel : null, sample.arrays.pae ? paePanel(sample, stage.point) : null);
    const plots = text ? [plddtPlot(residues, stage.point), depthPlot(job, residues, stage.point)] : [];
    const missing = sample.facts.missing.map((reason) => el("p", { className: "note bad", textContent: `Not shown: ${reason}` }));
    return [...missing, top, ...plots];
  }

  return { open };
}

/** What goes wrong is said in the page. */
async function attempt(work, place) {
  try {
    return await work();
  } catch (error) {
    place.replaceChildren(el("p", { className: "note bad", textContent: `This cannot be shown: ${error.message}` }));
    console.error(error);
    return null;
  }
}

function jobHead(row, title, go) {
  const button = (text, offset, hint) => el("button", { type: "button", textContent: text, title: hint, onclick: () => go(row.number, offset) });
  return el("div", { className: "head" },
    el("div", {}, title, el("p", { className: "quiet" }, el("span", { className: `badge ${row.status}`, textContent: row.status }), ` rank ${row.number + 1} of ${ROWS.length} · ${row.source}`)),
    el("div", { className: "tools" }, button("‹ Previous", -1, "Previous job of the table ( p )"), button("Next ›", 1, "Next job of the table ( n )")));
}

function sampleChoice(samples, pick) {
  const choices = samples.map((sample, k) => {
    const input = el("input", { type: "radio", name: "sample", value: String(k), checked: k === 0, onchange: () => pick(k) });
    return el("label", {}, input, el("span", {}, el("b", { textContent: String(k + 1) }), ` seed ${sample.seed}, sample ${sample.sample} · ${num(sample.score, 3)}`));
  });
  return el("fieldset", { className: "choice samples" }, el("legend", { textContent: "Sample, best first" }), ...choices);
}

function scoreFile(job, about, ending) {
  const found = job.arrays[`${about.name}/${ending}`];
  return found ? JSON.parse(utf8(found.data)) : {};
}

function absent(about) {
  const text = `The structure of this sample is not in this page, which is kept small. It is in ${about.name}/${about.stem}_model.cif of the job's folder; structgen report --split, or a larger --limit, shows every sample.`;
  return el("p", { className: "note", textContent: text });
}

function files(job, about, sample, text) {
  const offered = [];
  const offer = (title, name, type, make) => offered.push(el("button", { type: "button", textContent: title, title: name, onclick: () => download(name, [make()], type) }));
  if (text) offer("mmCIF", sample.facts.files.cif.name, "chemical/x-mmcif", () => text);
  if (sample?.arrays.pdb) offer("PDB", sample.facts.files.pdb.name, "chemical/x-pdb", () => byRows(sample.arrays.pdb.data, sample.facts.files.pdb.blocks));
  for (const [title, ending] of [["Scores (JSON)", "summary_confidences.json"], ["Checks (JSON)", "extras.json"]]) {
    const found = job.arrays[`${about.name}/${ending}`];
    if (found) offer(title, `${about.stem}_${ending}`, "application/json", () => found.data);
  }
  if (sample?.arrays.pae) offer("PAE (JSON, to 1/8 Å)", `${about.stem}_pae.json`, "application/json", () => paeJson(sample));
  return el("div", { className: "files tools" }, el("span", { className: "quiet", textContent: "Download" }), ...offered);
}

function paeJson(sample) {
  const n = sample.arrays.pae.shape[0];
  const steps = restorePae(sample.arrays.pae);
  const pae = Array.from({ length: n }, (_, row) => Array.from(steps.subarray(row * n, (row + 1) * n), (step) => (step === PAE_UNDEFINED ? null : step * PAE_STEP)));
  const ids = Array.from(sample.arrays["token/chain"].data, (index) => sample.facts.token_chains[index]);
  return JSON.stringify({ pae, token_chain_ids: ids, token_res_ids: Array.from(sample.arrays["token/number"].data) });
}

/** Errors, warnings, notes, templates, how long it took, and the settings. */
function words(job, row) {
  const { facts } = job;
  const list = (title, texts, kind = "") => (texts?.length ? el("div", { className: `note ${kind}` }, el("h3", { textContent: title }), el("ul", {}, ...texts.map((text) => el("li", { textContent: text })))) : null);
  const times = Object.entries(facts.seconds).map(([name, value]) => `${STAGES[name] ?? name} ${seconds(value)}`);
  const used = Object.entries(facts.templates ?? {}).flatMap(([chain, all]) => all.map((one) => `${chain}: ${Object.entries(one).map(([name, value]) => `${name} ${value}`).join(", ")}`));
  const settings = Object.entries(facts.settings ?? {}).map(([name, value]) => `${name} ${value}`);
  return [
    list("Errors", facts.errors.map(([stage, text]) => `${STAGES[stage] ?? stage}: ${text}`), "bad"),
    list("Not shown", facts.problem ? [facts.problem] : [], "bad"),
    list("Warnings", facts.warnings),
    list("Notes", facts.notes),
    list("Templates", used),
    list("Made", [`${row.tokens} tokens`, ...(facts.model ? [`model ${facts.model}, ${facts.device ?? ""}, ${facts.written ?? ""}`] : []), ...(times.length ? [times.join(", ")] : []), ...(settings.length ? [settings.join(", ")] : [])]),
  ].filter(Boolean);
}
