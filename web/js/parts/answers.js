// What the group answered against what is right: on a line of numbers with the tolerance, or counted.

import { h, name, styled, svg } from "../dom.js";
import { number, value } from "../format.js";

/** @import {Group} from "../types.js" */

/** @param {unknown} text @returns {number} NaN if it is no number. */
export function numeric(text) {
  if (typeof text === "number") return text;
  if (typeof text !== "string" || !text.trim()) return NaN;
  return Number(text.trim().replace(/[$€£,\s]/g, "").replace(/%$/, ""));
}

/**
 * Nothing if neither gold nor completions have an answer, or if it is drawn elsewhere.
 * @param {Group} group
 */
export function answers(group) {
  const gold = group.gold.answer;
  const given = group.rows.filter((row) => row.predictions.answer !== null && row.predictions.answer !== undefined);
  if (gold === null && !given.length) return null;
  /** @type {Map<string, {count: number, rows: number[]}>} */
  const counts = new Map();
  for (const row of group.rows) {
    const text = row.predictions.answer === null ? "" : value(row.predictions.answer);
    const one = counts.get(text) ?? { count: 0, rows: [] };
    counts.set(text, { count: one.count + 1, rows: [...one.rows, row.row] });
  }
  const sorted = [...counts].sort((a, b) => b[1].count - a[1].count).slice(0, 12);
  const values = given.map((row) => numeric(row.predictions.answer));
  const right = numeric(gold);
  const asNumbers = Number.isFinite(right) && values.some(Number.isFinite);
  return h(
    "section",
    { class: "answers", "aria-labelledby": "answers" },
    h("h2", { id: "answers" }, "Answers"),
    gold === null ? null : h("p", null, h("span", { class: "muted" }, "gold "), h("b", { class: "gold-text" }, name(value(gold))), tolerance(group.gold.tolerance)),
    asNumbers ? line(right, group.gold.tolerance ?? 0, values.filter(Number.isFinite)) : null,
    group.rows.length
      ? h("ul", { class: "votes" }, sorted.map(([text, { count }]) => h(
          "li",
          { class: text === String(gold) ? "right" : null },
          h("span", { class: "vote-name" }, text ? name(text) : h("em", { class: "muted" }, "none read")),
          h("span", { class: "bar-track", "aria-hidden": "true" }, styled(h("span", { class: "bar-fill" }), { width: `${(100 * count) / group.rows.length}%` })),
          h("span", { class: "number" }, `${count}`),
        )))
      : null,
  );
}

/** @param {number | null} share */
function tolerance(share) {
  if (share === null) return null;
  return h("span", { class: "muted" }, share === 0 ? " exactly" : ` ± ${number(100 * share)} %`);
}

/**
 * Gold with its tolerance as a band, answers as marks.
 * @param {number} right
 * @param {number} share Of the gold's size.
 * @param {number[]} given
 */
function line(right, share, given) {
  const band = Math.abs(right) * share;
  const low = Math.min(right - band, ...given);
  const high = Math.max(right + band, ...given);
  const room = (high - low) * 0.06 || 1;
  const at = (/** @type {number} */ number) => 4 + (392 * (number - low + room)) / (high - low + 2 * room);
  return svg(
    "svg",
    { class: "number-line", viewBox: "0 0 400 52", role: "img", "aria-label": `Gold ${number(right)}, answers ${given.map(number).join(", ")}` },
    svg("line", { x1: 0, x2: 400, y1: 26, y2: 26, class: "axis" }),
    svg("rect", { x: at(right - band) - 1, y: 12, width: Math.max(2, at(right + band) - at(right - band) + 2), height: 28, class: "band" }),
    [...new Set(given)].map((found) => svg("circle", { cx: at(found), cy: 26, r: 4 + Math.min(6, given.filter((other) => other === found).length), class: Math.abs(found - right) <= band ? "inside" : "outside" })),
    svg("text", { x: Math.min(380, Math.max(20, at(right))), y: 10, "text-anchor": "middle" }, number(right)),
    svg("text", { x: 2, y: 50 }, number(low)),
    svg("text", { x: 398, y: 50, "text-anchor": "end" }, number(high)),
  );
}
