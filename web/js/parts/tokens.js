// A completion token by token, coloured by one of its values: advantage, entropy, weight, log-ratio.

import { h, styled } from "../dom.js";
import { counted, number, signed, words } from "../format.js";
import { thinking } from "./completion.js";

/** @import {Tokens} from "../types.js" */

/** Tokens drawn at first. */
const MANY = 6000;

/** @typedef {{low: number, high: number, sided: boolean, falling: boolean}} Scale `falling`: the lowest is the strongest. */

/**
 * The range of a value over several completions, so that one colour means one number in all of them.
 * @param {Tokens[]} all
 * @param {string} value
 * @returns {Scale}
 */
export function scale(all, value) {
  let low = Infinity;
  let high = -Infinity;
  for (const tokens of all) {
    for (const found of tokens.values[value] ?? []) {
      if (found === null) continue;
      low = Math.min(low, found);
      high = Math.max(high, found);
    }
  }
  if (low > high) return { low: 0, high: 0, sided: false, falling: false };
  const sided = /advantage|ratio/.test(value) || (low < 0 && high > 0);
  return { low, high, sided, falling: !sided && /logp/.test(value) };
}

/**
 * @param {Tokens} tokens
 * @param {string} value
 * @param {Scale} scale
 * @param {{folded: boolean}} how
 */
export function tokenText(tokens, value, scale, { folded }) {
  const values = tokens.values[value] ?? [];
  const range = folded ? thinking(tokens.pieces.join("")) : null;
  const box = h("div", { class: `text completion tokens ${tokens.kind}`, dir: "auto" });
  draw(MANY);
  return box;

  /** @param {number} most */
  function draw(most) {
    /** @type {[Node[], Node[], Node[]]} before, within and after the thinking */
    const parts = [[], [], []];
    let at = 0;
    tokens.pieces.slice(0, most).forEach((piece, index) => {
      const where = !range || at < range[0] ? 0 : at < range[1] ? 1 : 2;
      parts[where].push(token(piece, values[index] ?? null));
      at += piece.length;
    });
    const folds = parts[1].length ? [h("details", { class: "thinking" }, h("summary", null, `Thinking, ${counted(parts[1].length, "token")}`), parts[1])] : [];
    const left = tokens.pieces.length - most;
    const more = left > 0 ? [h("button", { type: "button", class: "plain more-text", on: { click: () => draw(most * 5) } }, `… ${counted(left, "more token", "more tokens")}`)] : [];
    box.replaceChildren(...parts[0], ...folds, ...parts[2], ...more);
  }

  /**
   * @param {string} piece
   * @param {number | null} found
   */
  function token(piece, found) {
    const { side, share } = place(found, scale);
    const said = scale.sided ? signed(found) : number(found);
    const step = tokens.kind === "steps" ? h("small", null, ` ${said}`) : null;
    return styled(h("span", { class: `token ${side}`, title: `${words(value)} ${said}` }, piece, step), { "--share": `${Math.round(share * 100)}%` });
  }
}

/**
 * @param {number | null} found
 * @param {Scale} scale
 */
function place(found, { low, high, sided, falling }) {
  if (found === null) return { side: "none", share: 0 };
  if (sided) return { side: found < 0 ? "below" : "above", share: Math.abs(found) / (Math.max(Math.abs(low), Math.abs(high)) || 1) };
  return { side: "amount", share: (falling ? high - found : found - low) / (high - low || 1) };
}

/**
 * What the colours mean.
 * @param {string} value
 * @param {Scale} scale
 */
export function tokenLegend(value, { low, high, sided, falling }) {
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (low === high) return h("p", { class: "token-legend muted" }, `${words(value)}: ${number(low)} everywhere`);
  const ends = sided ? [signed(-most), signed(most)] : falling ? [number(high), number(low)] : [number(low), number(high)];
  return h("p", { class: "token-legend muted" }, `${words(value)}: `, ends[0] ?? "", h("span", { class: `ramp ${sided ? "sided" : "amount"}`, "aria-hidden": "true" }), ends[1] ?? "");
}
