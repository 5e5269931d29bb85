// Light, dark, or as the system has it. A page from a disk may have no storage: then the choice lasts as long as the page.

const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

function startTheme() {
  const button = document.getElementById("theme");
  let chosen = "auto";
  try { chosen = localStorage.getItem("structgen-theme") ?? "auto"; } catch { /* no storage */ }
  const apply = () => {
    if (!(chosen in THEMES)) chosen = "auto";
    document.documentElement.dataset.theme = chosen;
    button.textContent = THEMES[chosen];
    document.dispatchEvent(new Event("themed"));
  };
  button.onclick = () => {
    const names = Object.keys(THEMES);
    chosen = names[(names.indexOf(chosen) + 1) % names.length];
    try { localStorage.setItem("structgen-theme", chosen); } catch { /* no storage */ }
    apply();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}
