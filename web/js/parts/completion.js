// The text of a completion: as it is, thinking folded, what was searched for marked, long ones cut.

import { h, shown } from "../dom.js";

/** Characters shown at first; a line of a megabyte takes a browser seconds to lay out. */
export const LONG = 20_000;

/**
 * Text with every place of `q` marked, case ignored.
 * @param {string} text
 * @param {string} q
 * @returns {Node[]}
 */
export function marked(text, q) {
  if (!q) return shown(text);
  const found = [];
  const low = text.toLowerCase();
  const wanted = q.toLowerCase();
  let end = 0;
  // Lower case may be longer than the text (İ): then nothing is marked rather than the wrong place.
  if (low.length === text.length) {
    for (let at = low.indexOf(wanted); at >= 0 && found.length < 400; at = low.indexOf(wanted, end)) {
      found.push(...(at > end ? shown(text.slice(end, at)) : []), h("mark", null, text.slice(at, at + wanted.length)));
      end = at + wanted.length;
    }
  }
  return [...found, ...shown(text.slice(end))];
}

/**
 * Where a completion thinks: [start, end) of `<think> … </think>`, tags included; one that never ends goes to the end.
 * @param {string} text
 * @returns {[number, number] | null}
 */
export function thinking(text) {
  const start = text.indexOf("<think>");
  const stop = text.indexOf("</think>", Math.max(0, start));
  if (start < 0 && stop < 0) return null;
  return [Math.max(0, start), stop < 0 ? text.length : stop + "</think>".length];
}

/**
 * @param {string} text
 * @param {{q: string, folded: boolean}} how
 */
export function completion(text, { q, folded }) {
  const box = h("div", { class: "text completion", dir: "auto" });
  draw(LONG);
  return box;

  /** @param {number} longest */
  function draw(longest) {
    const cut = text.slice(0, longest);
    const range = folded ? thinking(cut) : null;
    /** @type {Node[]} */
    const parts = [];
    if (range) {
      parts.push(...marked(cut.slice(0, range[0]), q));
      parts.push(h("details", { class: "thinking" }, h("summary", null, `Thinking, ${range[1] - range[0]} characters`), marked(cut.slice(...range), q)));
      parts.push(...marked(cut.slice(range[1]), q));
    } else {
      parts.push(...marked(cut, q));
    }
    if (!text) parts.push(h("span", { class: "muted" }, "(empty)"));
    if (text.length > cut.length) {
      const left = text.length - cut.length;
      const more = () => draw(longest * 10);
      parts.push(h("button", { type: "button", class: "plain more-text", on: { click: more } }, `… ${left.toLocaleString("en-US")} more characters`));
    }
    box.replaceChildren(...parts);
  }
}
