// Which numbers of a run are drawn together, and in which order.

import { words } from "../format.js";

/** @import {Metrics} from "../types.js" */
/** @import {Panel} from "./chart.js" */

/** @type {[title: string, names: RegExp, how?: {stacked?: boolean, share?: boolean}][]} */
const PANELS = [
  ["Reward and scores", /^(reward|score\/.*)$/],
  ["Spread of rewards", /^reward_std$/],
  ["Groups without spread", /^groups_(zero_spread|all_right|all_wrong)$/, { share: true }],
  ["Completion length", /^length$/],
  ["Truncated and failed", /^(truncated|failed\/.*)$/, { share: true }],
  ["KL", /(^|[/_])kl([/_]|$)/i],
  ["Training against generation", /^ratio_/],
  ["Entropy", /^entropy/],
  ["Clip share", /^(?!loss).*clip/],
  ["Gradient norm", /^grad_norm$/],
  ["Loss", /^loss/],
  ["Learning rate", /^learning_rate/],
  ["Seconds per phase", /^seconds\//, { stacked: true }],
];

/**
 * The panels of a run, those with numbers only; series that no panel names come last, one panel each.
 * @param {Metrics} metrics
 * @returns {Panel[]}
 */
export function panels(metrics) {
  const left = new Set(Object.keys(metrics.series).filter((name) => name !== "step" && metrics.series[name]?.some((value) => value !== null)));
  /** @type {Panel[]} */
  const found = [];
  for (const [title, pattern, how] of PANELS) {
    const names = [...left].filter((name) => pattern.test(name)).sort((a, b) => Number(b === "reward") - Number(a === "reward"));
    names.forEach((name) => left.delete(name));
    if (names.length) found.push({ title, lines: names.map((name) => ({ ...line(metrics, name), faint: name.startsWith("score/") })), ...how });
  }
  for (const name of left) found.push({ title: words(name), lines: [line(metrics, name)] });
  return found;
}

/**
 * @param {Metrics} metrics
 * @param {string} name
 */
function line(metrics, name) {
  return { name: words(name).replace(/^groups /, ""), steps: metrics.steps, values: metrics.series[name] ?? [] };
}

/**
 * Metrics with those of later steps behind them; a series that one of the two lacks has gaps there.
 * @param {Metrics} metrics
 * @param {Metrics} later
 * @returns {Metrics}
 */
export function joined(metrics, later) {
  const gaps = (/** @type {Metrics} */ of) => Array(of.steps.length).fill(null);
  /** @type {Metrics["series"]} */
  const series = Object.create(null);
  for (const name of new Set([...Object.keys(metrics.series), ...Object.keys(later.series)])) {
    series[name] = [...(metrics.series[name] ?? gaps(metrics)), ...(later.series[name] ?? gaps(later))];
  }
  return { steps: [...metrics.steps, ...later.steps], series };
}
