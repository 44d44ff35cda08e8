// The form of what is searched for: each field is a parameter of the address and of the server's query.

import { h } from "../dom.js";
import { words } from "../format.js";

/** @import {Run} from "../types.js" */

/** What the server is asked for, of the parameters in the address. */
export const FILTERS = new Set(
  "step from_step to_step q reward_min reward_max score zero_spread truncated failed unparsed origin task modality sample sort descending starred".split(" "),
);

/**
 * @param {Run} info
 * @param {URLSearchParams} now
 * @param {{rows: boolean}} what
 * @param {(changes: import("../router.js").Query) => void} onChange
 */
export function filters(info, now, { rows }, onChange) {
  const isData = info.kind === "dataset";
  let waiting = 0;
  /** Typing asks when it pauses. @param {string} name @param {string} value */
  const typed = (name, value) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => onChange({ [name]: value.trim() }), 250);
  };

  /** @param {string} name @param {string} label @param {Record<string, any>} attributes */
  const input = (name, label, attributes) => {
    const field = h("input", { name, value: now.get(name) ?? "", autocomplete: "off", ...attributes, on: { input: () => typed(name, field.value) } });
    return h("label", { class: `field field-${name}` }, h("span", null, label), field);
  };
  /** @param {string} name @param {string} label @param {[string, string][]} options */
  const select = (name, label, options) => {
    const chosen = now.get(name) ?? "";
    const known = options.some(([value]) => value === chosen) || !chosen ? options : [...options, /** @type {[string, string]} */ ([chosen, chosen])];
    const field = h("select", { name, on: { change: () => onChange({ [name]: field.value }) } }, h("option", { value: "" }, name === "sort" ? "newest" : "any"), known.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
    return h("label", { class: `field field-${name}` }, h("span", null, label), field);
  };
  /** @param {string} name @param {string} label */
  const check = (name, label) => {
    const field = h("input", { type: "checkbox", name, checked: now.get(name) === "true", on: { change: () => onChange({ [name]: field.checked }) } });
    return h("label", { class: "check" }, field, label);
  };
  /** @param {string[]} values @returns {[string, string][]} */
  const same = (values) => values.map((value) => [value, value]);

  const { scores, origins, tasks, modalities } = info.columns;
  /** @type {[string, string][]} */
  const sorts = [["step", "oldest"], ["reward", "reward"], ["spread", "spread"], ["conflict", "disagreement of scores"], ["length", "length"], ["failed", "failures"], ["truncated", "truncation"]];
  if (rows) sorts.splice(2, 1, ["advantage", "advantage"], ...scores.map((name) => /** @type {[string, string]} */ ([`score:${name}`, words(name)])));
  const more = ["reward_min", "reward_max", "score", "zero_spread", "truncated", "failed", "unparsed", "origin", "from_step", "to_step", "starred", "sample"];

  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Search and filter", on: { submit: (/** @type {Event} */ event) => event.preventDefault() } },
    h(
      "div",
      { class: "fields" },
      input("q", "Search", { type: "search", placeholder: isData ? "prompt" : "completion or prompt" }),
      !isData && input("step", "Step", { type: "number", min: 0 }),
      tasks.length > 1 && select("task", "Task", same(tasks)),
      modalities.length > 1 && select("modality", "Modality", same(modalities)),
      !isData && select("sort", "Sort by", sorts),
      !isData && check("descending", "largest first"),
    ),
    isData
      ? null
      : h(
          "details",
          { class: "more-filters", open: more.some((name) => now.has(name)) },
          h("summary", null, "More filters"),
          h(
            "div",
            { class: "fields" },
            input("from_step", "From step", { type: "number", min: 0 }),
            input("to_step", "To step", { type: "number", min: 0 }),
            input("reward_min", "Reward from", { type: "number", step: "any" }),
            input("reward_max", "Reward to", { type: "number", step: "any" }),
            scores.map((name) => scoreRange(name, now, onChange)),
            origins.length > 1 && select("origin", "Origin", same(origins)),
            input("sample", "Sample", { type: "text", placeholder: "id" }),
            h("div", { class: "checks" }, check("zero_spread", "no spread"), check("truncated", "truncated"), check("failed", "a reward failed"), check("unparsed", "nothing parsed"), check("starred", "starred")),
          ),
        ),
  );
}

/**
 * From and to of one score: `score=NAME:MIN:MAX` in the address, either end may be empty.
 * @param {string} name
 * @param {URLSearchParams} now
 * @param {(changes: import("../router.js").Query) => void} onChange
 */
function scoreRange(name, now, onChange) {
  const mine = now.getAll("score").find((text) => text.startsWith(`${name}:`));
  const [low = "", high = ""] = mine?.slice(name.length + 1).split(":") ?? [];
  const change = () => {
    const others = new URLSearchParams(location.search).getAll("score").filter((text) => !text.startsWith(`${name}:`));
    const bounds = `${from.value}:${to.value}`;
    onChange({ score: bounds === ":" ? others : [...others, `${name}:${bounds}`] });
  };
  const from = h("input", { type: "number", step: "any", value: low, "aria-label": `${name} from`, placeholder: "from", on: { change } });
  const to = h("input", { type: "number", step: "any", value: high, "aria-label": `${name} to`, placeholder: "to", on: { change } });
  return h("fieldset", { class: "field pair" }, h("legend", null, words(name)), from, to);
}
