// The groups or the completions of a run: searched, filtered and sorted by the server, a page at a time.

import * as api from "../api.js";
import { announce, fill, h } from "../dom.js";
import { counted } from "../format.js";
import { step, use } from "../keyboard.js";
import { changed, go, runPath, update } from "../router.js";
import { groupCard, rowCard } from "../parts/cards.js";
import { FILTERS, filters } from "../parts/filters.js";

/** @import {Run} from "../types.js" */

const PAGE = 40;
/** Milliseconds after which a list is asked for again whose files were not all read. */
const REST = 1500;
/** Searches that are asked for often: what goes wrong in a run shows there. @type {[text: string, query: import("../router.js").Query][]} */
const COMMON = [
  ["Scores disagree", { sort: "conflict", descending: true }],
  ["Longest", { sort: "length", descending: true }],
  ["Failed", { failed: true }],
  ["Truncated", { truncated: true }],
  ["Starred", { starred: true }],
];
/** @type {typeof COMMON} */
const OF_GROUPS = [["All", {}], ["Highest spread", { sort: "spread", descending: true }], ["No spread", { zero_spread: true }], ...COMMON];
/** @type {typeof COMMON} */
const OF_ROWS = [["All", {}], ["Best", { sort: "reward", descending: true }], ["Worst", { sort: "reward" }], ...COMMON];

/**
 * @param {HTMLElement} body
 * @param {{id: string, info: Run, query: URLSearchParams, rows: boolean}} what
 */
export async function find(body, { id, info, query, rows }) {
  const isData = info.kind === "dataset";
  let now = new URLSearchParams(query);
  /** @type {AbortController | undefined} */
  let asking;
  let shown = 0;
  let rest = 0;
  let total = 0;

  const list = h("div", { class: rows ? "row-cards" : "group-cards" });
  const count = h("p", { class: "count", "aria-live": "polite" });
  const more = h("button", { type: "button", class: "more", hidden: true, on: { click: () => void load(shown) } }, "Show more");
  const form = filters(info, now, { rows }, (changes) => {
    now = changed(now, changes);
    update(changes);
    presets();
    void load(0);
  });
  const chips = h("nav", { class: "chips", "aria-label": "Searches asked for often" });
  function presets() {
    if (isData) return;
    fill(chips, (rows ? OF_ROWS : OF_GROUPS).map(([text, preset]) => {
      const bare = changed(new URLSearchParams(), { tab: now.get("tab"), ...preset });
      const same = ["descending", ...Object.keys(preset)].every((key) => now.get(key) === (key in preset ? String(preset[key]) : null));
      const active = Object.keys(preset).length ? same : ![...now.keys()].some((key) => FILTERS.has(key));
      return h("a", { href: runPath(id, bare), "aria-current": active ? "true" : null }, text);
    }));
  }

  /** What the server is asked, of what the address says. */
  function wanted() {
    const asked = new URLSearchParams();
    for (const [key, value] of now) if (FILTERS.has(key)) asked.append(key, value);
    if (!asked.has("sort") && !isData) {
      asked.set("sort", "step");
      asked.set("descending", "true");
    }
    return asked;
  }

  /** @param {number} offset */
  async function load(offset) {
    asking?.abort();
    clearTimeout(rest);
    const mine = (asking = new AbortController());
    list.setAttribute("aria-busy", "true");
    const asked = changed(wanted(), { offset, limit: PAGE });
    try {
      /** @type {HTMLElement[]} */
      let cards;
      let indexing;
      if (rows) {
        const found = await api.rows(id, asked, mine.signal);
        cards = found.rows.map((row) => rowCard(id, row, now.get("q") ?? ""));
        ({ total, indexing } = found);
      } else {
        const found = await api.groups(id, asked, mine.signal);
        cards = found.groups.map((group) => groupCard(id, group, { q: now.get("q") ?? "", isData }));
        ({ total, indexing } = found);
      }
      if (offset) list.append(...cards);
      else fill(list, cards.length ? cards : h("p", { class: "empty" }, "Nothing matches. Take a filter away, or search for less."));
      shown = offset + cards.length;
      const what = rows ? counted(total, "completion") : isData ? counted(total, "sample") : counted(total, "group");
      const isReading = indexing.done < indexing.total;
      fill(count, what + (isReading ? ` so far, ${Math.floor((100 * indexing.done) / indexing.total)} % read` : ""));
      if (isReading) rest = setTimeout(() => void again(), REST);
      more.hidden = shown >= total;
      if (offset) announce(`${shown} of ${total} shown`);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return;
      fill(list, h("p", { class: "empty", role: "alert" }, error instanceof Error ? error.message : String(error)));
      fill(count, "");
      more.hidden = true;
    }
    list.removeAttribute("aria-busy");
  }

  /** There is more to show: what is shown stays where it is unless the list is at its top. */
  async function again() {
    if (shown <= PAGE && window.scrollY < 200 && !list.contains(document.activeElement)) await load(0);
  }

  const keep = h("div", { class: "keep" },
    h("button", { type: "button", class: "plain", on: { click: () => void save("jsonl") } }, "Save as JSONL"),
    h("button", { type: "button", class: "plain", on: { click: () => void save("static") } }, "Save as a folder"),
  );
  /** @param {"jsonl" | "static"} kind */
  async function save(kind) {
    announce("Saving …");
    try {
      announce(`Saved ${await api.download({ run: id, form: kind, filters: wanted().toString() })}`);
    } catch (error) {
      fill(count, error instanceof Error ? error.message : String(error));
    }
  }

  presets();
  fill(body, chips, form, h("div", { class: "between" }, count, isData ? null : keep), list, more);
  await load(0);

  const cards = () => /** @type {HTMLElement[]} */ ([...list.querySelectorAll(".card")]);
  /** @param {number} by */
  const move = (by) => step(cards(), by)?.querySelector("a")?.focus({ preventScroll: true });
  /** @param {number} by */
  const stepBy = (by) => {
    const at = now.get("step");
    const steps = info.step_list;
    const index = at === null ? steps.length - 1 : steps.findIndex((step) => step >= Number(at)) + by;
    const next = steps[Math.min(steps.length - 1, Math.max(0, index))];
    if (next !== undefined) go(runPath(id, changed(now, { step: next })));
  };
  use({
    j: [rows ? "next completion" : "next group", () => move(1)],
    k: [rows ? "previous completion" : "previous group", () => move(-1)],
    "[": ["earlier step", () => stepBy(-1)],
    "]": ["later step", () => stepBy(1)],
    "/": ["search", () => /** @type {HTMLInputElement | null} */ (form.querySelector("[name=q]"))?.focus()],
  });
  return {
    again,
    stop: () => {
      clearTimeout(rest);
      asking?.abort();
    },
  };
}
