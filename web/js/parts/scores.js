// A bar per score, and on demand what the reward itself says about it.

import { h, name, styled } from "../dom.js";
import { number, value, words } from "../format.js";

/** @import {Row, Weighted} from "../types.js" */

/**
 * The largest size of each score in a group, at least 1: how long its longest bar is.
 * @param {Row[]} rows
 */
export function sizes(rows) {
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const row of rows) for (const [score, value] of Object.entries(row.scores)) found.set(score, Math.max(found.get(score) ?? 1, Math.abs(value ?? 0)));
  return found;
}

/**
 * @param {Row} row
 * @param {Weighted[]} weights
 * @param {Map<string, number>} sizes
 */
export function scores(row, weights, sizes) {
  return h(
    "ul",
    { class: "scores", "aria-label": "Scores" },
    Object.entries(row.scores).map(([score, found]) => {
      const note = row.notes[score];
      const weight = weights.find((one) => one.name === score)?.weight;
      const share = found === null ? 0 : Math.min(1, Math.abs(found) / (sizes.get(score) ?? 1));
      const bar = styled(h("span", { class: `bar-fill ${(found ?? 0) < 0 ? "below" : ""}` }), { width: `${100 * share}%` });
      const line = [
        h("span", { class: "score-name" }, name(words(score)), weight === undefined || weight === 1 ? null : h("span", { class: "muted" }, weight === null ? " × scheduled" : ` × ${number(weight)}`)),
        h("span", { class: "bar-track", "aria-hidden": "true" }, bar),
        h("b", { class: "number" }, number(found)),
      ];
      if (!note) return h("li", { class: "score" }, line);
      return h("li", { class: "score" }, h("details", null, h("summary", { title: "what the reward says" }, line), says(note)));
    }),
  );
}

/** @param {any} note */
function says(note) {
  const entries = note && typeof note === "object" ? Object.entries(note) : [["says", note]];
  const labels = /** @type {Record<string, string>} */ ({ parsed: "read", why: "why", error: "failed" });
  return h("dl", { class: "says" }, entries.map(([key, found]) => h("div", { class: key === "error" ? "error" : null }, h("dt", null, labels[key] ?? name(key)), h("dd", null, name(value(found))))));
}
