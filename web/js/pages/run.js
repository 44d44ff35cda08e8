// One run: its curves, its groups and completions, its config and what happened.

import * as api from "../api.js";
import { fill, h, name } from "../dom.js";
import { ago, number, value } from "../format.js";
import { use } from "../keyboard.js";
import { keep } from "../live.js";
import { go, runPath } from "../router.js";
import { chart } from "../parts/chart.js";
import { joined, panels } from "../parts/panels.js";
import { badge, fact, state, troubles } from "../parts/small.js";
import { find } from "./find.js";

/** @import {Run} from "../types.js" */

/** @type {import("../app.js").Page} */
export async function run(main, route) {
  const id = route.parts[1] ?? "";
  const info = await api.run(id);
  const isData = info.kind === "dataset";
  const tab = route.query.get("tab") ?? (isData ? "groups" : "curves");
  /** @type {[string, string][]} */
  const tabs = isData ? [] : [["curves", "Curves"], ["groups", "Groups"], ["rows", "Completions"], ["config", "Config"], ["events", `Events (${info.events.length})`]];

  const facts = h("dl", { class: "facts" });
  const notes = h("div");
  const body = h("div", { class: "tab" });
  /** @param {Run} info */
  const head = (info) => {
    fill(facts, isData ? [] : [
      fact("State", state(info.state)), fact("Steps", `${info.step === null ? 0 : info.step + 1} of ${info.steps ?? "–"}`), fact("Reward", number(info.reward)),
      fact("Method", name(info.method ?? "–")), fact("Model", name(info.model ?? "–")), fact("Data", name(info.data ?? "–")), fact("Changed", ago(info.updated)),
    ]);
    fill(notes, troubles(info.problems));
  };
  head(info);
  fill(
    main,
    h("div", { class: "heading" }, h("h1", null, name(info.name))),
    facts,
    notes,
    tabs.length > 0 && h("nav", { class: "tabs", "aria-label": "Parts of the run" }, tabs.map(([key, text]) => h("a", { href: runPath(id, { tab: key }), "aria-current": key === tab ? "page" : null }, text))),
    body,
  );

  let stop = () => {};
  let again = async (/** @type {Run} */ _run) => {};
  if (tab === "groups" || tab === "rows") ({ again, stop } = await find(body, { id, info, query: route.query, rows: tab === "rows" }));
  else if (tab === "config") fill(body, config(info));
  else if (tab === "events") fill(body, events(info));
  else ({ again, stop } = await curves(body, id, info));

  const end = info.state === "running" ? keep(async () => {
    const next = await api.run(id);
    head(next);
    await again(next);
    return true; // a run that stands still may be resumed
  }) : () => {};
  return { title: info.name, end: () => (end(), stop()) };
}

/**
 * @param {HTMLElement} body
 * @param {string} id
 * @param {Run} info
 */
async function curves(body, id, info) {
  let metrics = await api.metrics(id);
  const resumes = (/** @type {Run} */ of) => of.events.filter((event) => event.kind === "resumed").length;
  let seen = resumes(info);
  const groupsOf = (/** @type {number} */ step) => go(runPath(id, { tab: "groups", step }));
  const steps = info.step_list;
  const pick = h("input", { type: "number", min: steps[0] ?? 0, max: steps.at(-1) ?? 0, value: steps.at(-1) ?? 0, "aria-label": "Step", id: "step" });
  const form = h(
    "form",
    { class: "tools", on: { submit: (/** @type {Event} */ event) => (event.preventDefault(), groupsOf(Number(pick.value))) } },
    h("span", { class: "muted" }, "Choose a point for the groups of its step, or go to step"),
    pick,
    h("button", { type: "submit" }, "Show"),
  );
  /** @type {Map<string, ReturnType<typeof chart>>} by title; numbers that come later bring charts of their own */
  const charts = new Map();
  const grid = h("section", { class: "charts", "aria-label": "Curves" });
  const nothing = h("p", { class: "empty" }, "No step is recorded yet.");
  const show = () => {
    const now = panels(metrics);
    form.hidden = !metrics.steps.length;
    nothing.hidden = metrics.steps.length > 0;
    for (const panel of now) if (!charts.has(panel.title)) charts.set(panel.title, chart(panel, groupsOf));
    const elements = now.flatMap((panel) => charts.get(panel.title)?.element ?? []);
    if (elements.length !== grid.childElementCount) fill(grid, elements);
    setTimeout(() => now.forEach((panel) => void charts.get(panel.title)?.draw(panel)));
  };
  fill(body, form, nothing, grid);
  show();
  const draw = () => charts.forEach((one) => void one.draw());
  document.addEventListener("theme", draw);
  window.addEventListener("resize", draw);
  use({
    "/": ["search the completions", () => go(runPath(id, { tab: "rows" }))],
    g: ["groups of the last step", () => groupsOf(steps.at(-1) ?? 0)],
  });
  return {
    again: async (/** @type {Run} */ next) => {
      // A resumed run makes some steps anew, so all are asked for again.
      metrics = resumes(next) === seen ? joined(metrics, await api.metrics(id, metrics.steps.at(-1))) : await api.metrics(id);
      seen = resumes(next);
      show();
    },
    stop: () => {
      document.removeEventListener("theme", draw);
      window.removeEventListener("resize", draw);
    },
  };
}

/** @param {Run} info */
function config(info) {
  return h("section", { "aria-label": "Config" }, h("pre", { class: "code", tabindex: "0" }, info.config_text || "–"));
}

/** @param {Run} info */
function events(info) {
  if (!info.events.length) return h("p", { class: "empty" }, "Nothing happened yet.");
  const kinds = { warning: "warn", failed: "bad", resumed: "note", finished: "good" };
  return h(
    "ol",
    { class: "events" },
    info.events.map(({ time, kind, ...rest }) => {
      const when = new Date(time * 1000);
      const details = Object.entries(rest).filter(([key, found]) => found !== null && key !== "rank");
      return h(
        "li",
        null,
        h("time", { datetime: when.toISOString() }, when.toISOString().slice(0, 19).replace("T", " ")),
        badge(kind, /** @type {any} */ (kinds)[kind] ?? ""),
        h("span", { class: "details" }, details.map(([key, found]) => h("span", null, h("span", { class: "muted" }, `${key} `), name(value(found)), " "))),
      );
    }),
  );
}
