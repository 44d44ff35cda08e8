// Gold and predicted spans on one line of time, with their temporal IoU.

import { h, styled } from "../dom.js";
import { number, seconds } from "../format.js";

/** @import {Group} from "../types.js" */

/**
 * Shared time over time covered by either of two sets of spans, 0 to 1. Seconds.
 * @param {number[][]} predicted
 * @param {number[][]} gold
 */
export function tiou(predicted, gold) {
  const ends = [...predicted, ...gold].flat().sort((a, b) => a - b);
  const inside = (/** @type {number[][]} */ spans, /** @type {number} */ time) => spans.some(([start = 0, end = 0]) => start <= time && time < end);
  let both = 0;
  let either = 0;
  for (let at = 0; at + 1 < ends.length; at++) {
    const from = ends[at] ?? 0;
    const length = (ends[at + 1] ?? 0) - from;
    const [p, g] = [inside(predicted, from), inside(gold, from)];
    if (p && g) both += length;
    if (p || g) either += length;
  }
  return either > 0 ? both / either : 0;
}

/**
 * Nothing if the group has no spans.
 * @param {Group} group
 * @param {(row: number) => void} onPick
 */
export function timeline(group, onPick) {
  const predicted = group.rows.filter((row) => row.predictions.spans.length);
  const gold = group.gold.spans;
  if (!gold.length && !predicted.length) return null;
  const times = [...group.media.flatMap((one) => one.times), ...gold.flat(), ...predicted.flatMap((row) => row.predictions.spans.flat())];
  const end = Math.max(...times.filter(Number.isFinite), Number(group.meta?.duration) || 0) || 1;

  /** @param {number[][]} spans @param {string} kind */
  const track = (spans, kind) => h("span", { class: "track", "aria-hidden": "true" }, spans.map(([from = 0, to = 0]) => {
    const left = Math.max(0, Math.min(from, to));
    const right = Math.min(end, Math.max(from, to));
    return styled(h("span", { class: `span ${kind}` }), { left: `${(100 * left) / end}%`, width: `${(100 * Math.max(0, right - left)) / end}%` });
  }));
  const written = (/** @type {number[][]} */ spans) => spans.map(([from = 0, to = 0]) => `${seconds(from)} – ${seconds(to)}`).join(", ");

  return h(
    "section",
    { class: "timeline", "aria-label": "Spans over time" },
    h("div", { class: "time-row axis muted", "aria-hidden": "true" }, h("span", null, ""), h("span", { class: "ends" }, h("span", null, "0 s"), h("span", null, seconds(end / 2)), h("span", null, seconds(end))), h("span", null, "tIoU")),
    gold.length ? h("div", { class: "time-row" }, h("span", { class: "who" }, "gold"), track(gold, "gold"), h("span", { class: "unseen" }, written(gold)), h("span", null, "")) : null,
    predicted.map((row) => {
      const side = (row.advantage ?? 0) < 0 ? "below" : (row.advantage ?? 0) > 0 ? "above" : "even";
      const at = group.rows.indexOf(row) + 1;
      return h(
        "button",
        { type: "button", class: "time-row", "data-row": String(row.row), title: written(row.predictions.spans), on: { click: () => onPick(row.row) } },
        h("span", { class: "who" }, `#${at}`),
        track(row.predictions.spans, side),
        h("span", { class: "unseen" }, `${written(row.predictions.spans)}, tIoU `),
        h("b", { class: "number" }, gold.length ? number(tiou(row.predictions.spans, gold)) : "–"),
      );
    }),
  );
}
