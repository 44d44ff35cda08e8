// Two or more runs in the same charts, and where their configs differ.

import * as api from "../api.js";
import { fill, h, name } from "../dom.js";
import { value, words } from "../format.js";
import { runPath } from "../router.js";
import { chart } from "../parts/chart.js";
import { panels } from "../parts/panels.js";

/** @type {import("../app.js").Page} */
export async function compare(main, route) {
  const ids = route.query.getAll("compare");
  const runs = await Promise.all(ids.map((id) => api.run(id)));
  const metrics = await Promise.all(ids.map((id) => api.metrics(id)));

  const charts = combined(runs.map((run) => run.name), metrics).map((panel) => chart(panel));
  fill(
    main,
    h("div", { class: "heading" }, h("h1", null, `${runs.length} runs compared`)),
    h("ul", { class: "compared" }, runs.map((run, at) => h("li", null, h("span", { class: "key", "data-line": String((at % 7) + 1), "aria-hidden": "true" }), h("a", { href: runPath(run.id) }, name(run.name))))),
    h("section", { "aria-label": "Curves", class: "charts" }, charts.map((one) => one.element)),
    h("section", { "aria-labelledby": "differ" }, h("h2", { id: "differ" }, "Where the configs differ"), differences(runs)),
  );
  const draw = () => charts.forEach((one) => void one.draw());
  setTimeout(draw);
  document.addEventListener("theme", draw);
  window.addEventListener("resize", draw);
  return {
    title: ids.join(" · "),
    end: () => {
      document.removeEventListener("theme", draw);
      window.removeEventListener("resize", draw);
    },
  };
}

/**
 * A panel per number that at least one run has, with a line per run.
 * @param {string[]} names
 * @param {import("../types.js").Metrics[]} metrics
 */
function combined(names, metrics) {
  /** @type {Map<string, import("../parts/chart.js").Panel>} */
  const found = new Map();
  metrics.forEach((one, at) => {
    for (const panel of panels(one)) {
      if (panel.stacked) continue;
      for (const line of panel.lines) {
        const title = panel.lines.length > 1 && line.name !== panel.title ? `${panel.title}: ${words(line.name)}` : panel.title;
        if (!found.has(title)) found.set(title, { title, lines: names.map((run) => ({ name: run, steps: [], values: [] })), ...(panel.share ? { share: true } : {}) });
        const mine = found.get(title)?.lines[at];
        if (mine) Object.assign(mine, { steps: line.steps, values: line.values });
      }
    }
  });
  return [...found.values()];
}

/** @param {import("../types.js").Run[]} runs */
function differences(runs) {
  const flat = runs.map((run) => flattened(run.config));
  const keys = [...new Set(flat.flatMap((one) => Object.keys(one)))];
  const differing = keys.filter((key) => new Set(flat.map((one) => one[key] ?? "")).size > 1);
  if (!differing.length) return h("p", { class: "muted" }, "They do not.");
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Differences of the configs" },
    h(
      "table",
      { class: "list plain-cells" },
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Setting"), runs.map((run) => h("th", { scope: "col" }, name(run.name))))),
      h("tbody", null, differing.map((key) => h("tr", null, h("th", { scope: "row" }, h("code", null, key)), flat.map((one) => h("td", null, h("code", null, one[key] ?? "–")))))),
    ),
  );
}

/**
 * @param {unknown} config
 * @param {string} before
 * @returns {Record<string, string>}
 */
function flattened(config, before = "") {
  if (config === null || typeof config !== "object") return { [before]: value(config) };
  return Object.assign({}, ...Object.entries(config).map(([key, inner]) => flattened(inner, before ? `${before}.${key}` : key)));
}
