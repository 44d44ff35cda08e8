// Light or dark before the first paint: what was chosen here earlier, else what the system says. Not a module, so that
// it runs before the page is drawn.
(() => {
  /** @type {string | null} */
  let chosen = null;
  try {
    chosen = localStorage.getItem("mmrl.theme");
  } catch {
    // Storage may be forbidden; the system's theme is a good answer then.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
