// All runs and data sets: what they are, how far, how well; two or more can be compared.

import * as api from "../api.js";
import { fill, h, name } from "../dom.js";
import { ago, counted, number } from "../format.js";
import { step, use } from "../keyboard.js";
import { keep } from "../live.js";
import { go, runPath, update, withQuery } from "../router.js";
import { state } from "../parts/small.js";
import { spark } from "../parts/spark.js";

/** @import {RunCard} from "../types.js" */

/** @type {import("../app.js").Page} */
export async function runs(main, route) {
  let found = await api.runs();
  const only = found.runs.length === 1 ? found.runs[0] : undefined;
  if (only?.kind === "dataset") location.replace(runPath(only.id));
  const chosen = new Set(route.query.getAll("pick"));
  let wanted = route.query.get("q") ?? "";

  const search = h("input", {
    type: "search", value: wanted, placeholder: "name, method, model, data", "aria-label": "Filter the runs", autocomplete: "off",
    on: {
      input: () => {
        wanted = search.value;
        update({ q: wanted });
        draw();
      },
    },
  });
  const compare = h("a", { class: "button", href: "/" }, "Compare");
  const list = h("div", { class: "runs" });

  function draw() {
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = found.runs.filter((run) => {
      const text = [run.name, run.method, run.model, run.data, run.state].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    fill(list, shown.length ? table(shown) : empty(found.runs.length));
    picked();
  }

  function picked() {
    const ready = chosen.size > 1;
    compare.textContent = ready ? `Compare ${chosen.size} runs` : "Compare: pick two or more";
    compare.classList.toggle("off", !ready);
    compare.setAttribute("aria-disabled", String(!ready));
    compare.setAttribute("href", ready ? withQuery("/", { compare: [...chosen] }) : "/");
    update({ pick: [...chosen] });
  }

  /** @param {RunCard[]} shown */
  function table(shown) {
    const heads = ["", "Run", "Method", "Model", "Data", "Progress", "Reward", "", "Changed"];
    return h(
      "table",
      { class: "list" },
      h("thead", null, h("tr", null, heads.map((head, at) => h("th", { scope: "col" }, head || h("span", { class: "unseen" }, at ? "Reward over steps" : "Pick"))))),
      h("tbody", null, shown.map(row)),
    );
  }

  /** @param {RunCard} run */
  function row(run) {
    const pick = h("input", {
      type: "checkbox", checked: chosen.has(run.id), disabled: run.kind === "dataset", "aria-label": `Compare ${run.name}`,
      on: {
        change: () => {
          if (pick.checked) chosen.add(run.id);
          else chosen.delete(run.id);
          picked();
        },
      },
    });
    const of = run.kind === "dataset" ? "data set" : null;
    return h(
      "tr",
      { class: "item" },
      h("td", { class: "pick" }, pick),
      h("th", { scope: "row" }, h("a", { href: runPath(run.id) }, name(run.name)), h("span", { class: "under" }, of ?? state(run.state), run.problems?.length ? h("span", { class: "muted" }, ` ${counted(run.problems.length, "problem")}`) : null)),
      cell("Method", run.method), cell("Model", run.model), cell("Data", run.data),
      h("td", { "data-label": "Progress" }, progress(run)),
      h("td", { class: "number", "data-label": "Reward" }, number(run.reward)),
      h("td", { class: "sparkline" }, run.spark?.length ? spark(run.spark, "reward") : null),
      h("td", { class: "muted", "data-label": "Changed" }, ago(run.updated)),
    );
  }

  draw();
  fill(main, h("div", { class: "heading" }, h("div", null, h("h1", null, "Runs"), h("p", { class: "muted where" }, name(found.folder))), h("div", { class: "tools" }, search, compare)), list);

  const items = () => /** @type {HTMLElement[]} */ ([...list.querySelectorAll(".item")]);
  use({
    j: ["next run", () => step(items(), 1)?.querySelector("a")?.focus()],
    k: ["previous run", () => step(items(), -1)?.querySelector("a")?.focus()],
    x: ["pick this run for a comparison", () => /** @type {HTMLElement | null} */ (list.querySelector(".item.current input"))?.click()],
    c: ["compare the picked runs", () => chosen.size > 1 && go(withQuery("/", { compare: [...chosen] }))],
    "/": ["filter", () => search.focus()],
  });
  const end = keep(async () => {
    const next = await api.runs();
    if (JSON.stringify(next) !== JSON.stringify(found) && !list.contains(document.activeElement)) {
      found = next;
      draw();
    }
    return true;
  });
  return { title: "Runs", end };
}

/**
 * @param {string} label
 * @param {string | null} text
 */
function cell(label, text) {
  return h("td", { "data-label": label, class: "word" }, text ? name(text) : "–");
}

/** @param {RunCard} run */
function progress(run) {
  if (run.kind === "dataset" || run.step === null) return "–";
  if (!run.steps) return String(run.step + 1);
  return h("span", { class: "progress" }, h("progress", { value: run.step + 1, max: run.steps, "aria-label": "steps done" }), h("span", { class: "number" }, `${run.step + 1}/${run.steps}`));
}

/** @param {number} all */
function empty(all) {
  if (all) return h("p", { class: "empty" }, "No run matches the filter.");
  return h("p", { class: "empty" }, "There is no run here yet. A training writes one: ", h("code", null, "scripts/demo.sh"), ". It appears here by itself.");
}
