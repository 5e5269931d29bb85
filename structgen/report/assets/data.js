// Data of the page: the index, and packed safetensors that are unfolded when they are needed.

const INDEX = JSON.parse(document.getElementById("index").textContent);
const ROWS = INDEX.rows.map((row, number) => ({ number, ...Object.fromEntries(INDEX.columns.map((name, k) => [name, row[k]])) }));

const arrived = new Map(); // name of a data file -> what waits for it
window.structgenData = (name, text) => arrived.get(name)?.(text);

const parsed = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve, { once: true });
});

/** The base64 text of a payload, or null where this page does not hold it. */
async function findPayload(name) {
  if (INDEX.split) return fetchScript(name);
  if (!document.getElementById(name)) await parsed; // a large page is still arriving
  return document.getElementById(name)?.textContent ?? null;
}

/** A data file beside the page. A script element works from a disk, where other ways of reading are forbidden. */
function fetchScript(name) {
  return new Promise((resolve) => {
    const script = el("script", { src: `data/${name}.js` });
    const done = (text) => { arrived.delete(name); script.remove(); resolve(text); };
    arrived.set(name, done);
    script.onerror = () => done(null);
    document.head.append(script);
  });
}

async function inflate(base64) {
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old: it cannot unpack the data (it lacks DecompressionStream)");
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const KINDS = { U8: Uint8Array, U16: Uint16Array, U32: Uint32Array, I32: Int32Array };

/** { facts, arrays: name -> { shape, data } } of a packed file, or null. */
async function load(name) {
  const text = await findPayload(name);
  if (text === null) return null;
  const bytes = await inflate(text);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const { __metadata__: metadata, ...entries } = JSON.parse(utf8(bytes.subarray(8, 8 + length)));
  const arrays = {};
  for (const [key, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    arrays[key] = { shape, data: new KINDS[dtype](bytes.slice(8 + length + from, 8 + length + to).buffer) };
  }
  return { facts: JSON.parse(metadata.facts), arrays };
}

function utf8(bytes) {
  return new TextDecoder().decode(bytes);
}

/** A text that was stored by columns; blocks: [bytes in a line, lines] of each run of equally long lines. */
function byRows(bytes, blocks) {
  const out = new Uint8Array(bytes.length);
  let at = 0;
  for (const [width, rows] of blocks) {
    for (let column = 0; column < width; column++) for (let row = 0; row < rows; row++) out[at + row * width + column] = bytes[at + column * rows + row];
    at += width * rows;
  }
  return utf8(out);
}

const PAE_STEP = 0.125;
const PAE_UNDEFINED = 255;

/** Steps of PAE_STEP angstrom, row after row, from differences to the row above. */
function restorePae({ shape: [n], data }) {
  const steps = new Uint8Array(data);
  for (let k = n; k < steps.length; k++) steps[k] = steps[k] + steps[k - n];
  return steps;
}

let library = null;

/** The 3-D library: unfolded and run once, when the first structure is shown. */
function viewerLibrary() {
  library ??= inflate(document.getElementById("library").textContent).then((bytes) => {
    document.head.append(el("script", { textContent: utf8(bytes) }));
    return window.$3Dmol;
  });
  return library;
}
