// Small things many pages show.

import { h } from "../dom.js";
import { number, signed } from "../format.js";

/**
 * An advantage or a reward with its side: blue above 0, orange below.
 * @param {number | null} value
 * @param {string} what
 */
export function advantage(value, what = "advantage") {
  const side = value === null || value === 0 ? "even" : value > 0 ? "above" : "below";
  return h("span", { class: `side ${side}`, title: `${what} ${signed(value)}` }, h("span", { class: "unseen" }, `${what} `), value === null ? "–" : `${value > 0 ? "+" : ""}${value.toFixed(2)}`.replace("-", "−"));
}

/**
 * @param {string} text
 * @param {"" | "warn" | "bad" | "note" | "good"} [kind]
 * @param {string} [title]
 */
export function badge(text, kind = "", title) {
  return h("span", { class: `badge ${kind}`, title: title ?? null }, text);
}

/** @param {import("../types.js").RunCard["state"] | string} state */
export function state(state) {
  return h("span", { class: `state ${state}` }, state);
}

/**
 * What is wrong, in a box that can be closed up.
 * @param {string[] | undefined} problems
 */
export function troubles(problems) {
  if (!problems?.length) return null;
  const all = problems.map((problem) => h("li", null, problem));
  return h("details", { class: "problems", open: problems.length <= 3 }, h("summary", null, problems.length === 1 ? "One thing could not be read" : `${problems.length} things could not be read`), h("ul", null, all));
}

/**
 * A fact of a heading: its name above, its value below.
 * @param {string} label
 * @param {import("../dom.js").Child | import("../dom.js").Child[]} value
 */
export function fact(label, value) {
  return h("div", { class: "fact" }, h("dt", null, label), h("dd", null, value));
}

/**
 * Least, mean and most of a group's rewards on one line from the least to the most of a list.
 * @param {{mean: number | null, min: number | null, max: number | null}} reward
 */
export function range(reward) {
  return h("span", { class: "range" }, h("b", null, number(reward.mean)), h("span", { class: "muted" }, ` ${number(reward.min)} … ${number(reward.max)}`));
}

/**
 * A group of buttons of which one is pressed.
 * @param {string} label
 * @param {[value: string, text: string][]} options
 * @param {string} chosen
 * @param {(value: string) => void} onChoice
 */
export function choice(label, options, chosen, onChoice) {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), "data-value": value, on: { click: () => pick(value) } }, text),
  );
  /** @param {string} value */
  function pick(value) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    onChoice(value);
  }
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}
