// The 3-D view. One viewer serves all jobs, since browsers keep few WebGL contexts.

const STYLES = { cartoon: "Cartoon", trace: "Trace", sticks: "Sticks" };
const COLOURS = { plddt: "pLDDT", chain: "Chain" };

function createStage() {
  const canvasBox = el("div", { className: "stage", tabIndex: 0, role: "application", "aria-label": "3-D structure. Arrow keys turn it, plus and minus zoom, Home resets." });
  const still = el("img", { className: "still", alt: "The structure as it was last seen" });
  const readout = el("output", { className: "readout", "aria-live": "polite" });
  const keys = el("div");
  const state = { viewer: null, chains: [], style: "cartoon", colour: "plddt", problem: "" };

  const choose = (name, values) => el("fieldset", { className: "choice" }, el("legend", { textContent: name }), ...Object.entries(values).map(([key, text]) => {
    const input = el("input", { type: "radio", name: `view-${name}`, value: key, checked: state[name] === key });
    input.onchange = () => { state[name] = key; paint(); };
    return el("label", {}, input, el("span", { textContent: text }));
  }));
  const reset = el("button", { type: "button", textContent: "Reset", title: "The whole structure", onclick: fit });
  const picture = el("button", { type: "button", textContent: "PNG", title: "Download this picture", onclick: () => { if (state.viewer) save(); } });
  const tools = el("div", { className: "tools" }, choose("colour", COLOURS), choose("style", STYLES), reset, picture);
  const panel = el("div", { className: "panel" }, titled("Structure", readout), tools, canvasBox, still, keys);

  async function show(text, chains, name) {
    state.chains = chains;
    state.name = name;
    const library = await viewerLibrary();
    if (!state.viewer) start(library);
    if (!state.viewer) return;
    state.viewer.removeAllShapes();
    state.viewer.removeAllModels();
    state.viewer.addModel(text, "cif");
    state.viewer.setHoverable({}, true, (atom) => { readout.textContent = atomText(atom); }, () => { readout.textContent = ""; });
    paint();
    state.viewer.resize();
    fit();
    document.dispatchEvent(new Event("structure-shown"));
  }

  function start(library) {
    try {
      state.viewer = library.createViewer(canvasBox, { antialias: true, backgroundAlpha: 0, backgroundColor: "white" });
    } catch (error) {
      state.problem = error.message;
    }
    if (!state.viewer) { canvasBox.replaceChildren(el("p", { className: "quiet", textContent: `This browser shows no 3-D pictures (WebGL is off). ${state.problem}` })); return; }
    new ResizeObserver(() => { state.viewer.resize(); state.viewer.render(); }).observe(canvasBox);
    window.addEventListener("beforeprint", () => { still.src = state.viewer.pngURI(); });
  }

  function fit() {
    if (!state.viewer) return;
    state.viewer.zoomTo();
    state.viewer.zoom(1.1);
    state.viewer.render();
  }

  function paint() {
    keys.replaceChildren(state.colour === "plddt" ? plddtLegend() : legend(state.chains.map((chain, k) => [chainColour(k), chain])));
    if (!state.viewer) return;
    const colorfunc = state.colour === "plddt" ? (atom) => plddtColour(atom.b) : (atom) => chainColour(Math.max(state.chains.indexOf(atom.chain), 0));
    const small = { stick: { radius: 0.2, colorfunc }, sphere: { scale: 0.28, colorfunc } };
    const whole = { cartoon: { colorfunc, arrows: true }, trace: { cartoon: { style: "trace", thickness: 0.6, colorfunc } }, sticks: { stick: { radius: 0.16, colorfunc } } };
    state.viewer.setStyle({}, state.style === "cartoon" ? { cartoon: whole.cartoon } : whole[state.style]);
    state.viewer.setStyle({ hetflag: true }, small);
    state.viewer.render();
  }

  function save() {
    el("a", { href: state.viewer.pngURI(), download: `${state.name}.png` }).click();
  }

  /** Put a ball on each of some residues; none takes them away. */
  function point(residues) {
    if (!state.viewer) return;
    state.viewer.removeAllShapes();
    for (const { chain, number } of residues) {
      const atoms = state.viewer.selectedAtoms({ chain, resi: number });
      const atom = atoms.find(({ atom: name }) => name === "CA" || name === "C1'") ?? atoms[0];
      if (atom) state.viewer.addSphere({ center: { x: atom.x, y: atom.y, z: atom.z }, radius: 1.6, color: "#e0447c", opacity: 0.85 });
    }
    state.viewer.render();
  }

  canvasBox.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [-8, "y"], ArrowRight: [8, "y"], ArrowUp: [-8, "x"], ArrowDown: [8, "x"] }[event.key];
    const zoom = { "+": 1.15, "=": 1.15, "-": 0.87 }[event.key];
    if (!state.viewer || !(turn || zoom || event.key === "Home")) return;
    event.preventDefault();
    if (turn) state.viewer.rotate(...turn);
    else if (zoom) state.viewer.zoom(zoom);
    else fit();
    state.viewer.render();
  });
  return { panel, show, point };
}

function atomText(atom) {
  return `${atom.chain} ${atom.resi} ${atom.resn} ${atom.atom}: pLDDT ${num(atom.b, 1)}`;
}
