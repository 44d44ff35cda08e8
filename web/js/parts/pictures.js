// What a diffusion policy made: the pictures of a group as a grid, the best first, and one of them large.

import { h } from "../dom.js";
import { number } from "../format.js";
import { advantage } from "./small.js";

/** @import {Group, Row} from "../types.js" */

/**
 * @param {Group} group
 * @param {(row: number) => void} onPick
 */
export function pictures(group, onPick) {
  return h(
    "ol",
    { class: "grid", "aria-label": "Pictures, the best first" },
    group.rows.map((row, at) =>
      h(
        "li",
        null,
        h(
          "button",
          { type: "button", class: "tile", "data-row": String(row.row), "aria-label": `Picture ${at + 1}, reward ${number(row.reward)}`, on: { click: () => onPick(row.row) } },
          made(row, `Picture ${at + 1}`),
          h("span", { class: "tile-text" }, h("b", null, number(row.reward)), advantage(row.advantage)),
        ),
      ),
    ),
  );
}

/**
 * @param {Row} row
 * @param {string} alt
 * @param {{large?: boolean}} [how]
 */
export function made(row, alt, { large = false } = {}) {
  if (!row.made_url) return h("span", { class: "missing" }, "not kept");
  if (row.made_kind === "video") return h("video", { src: row.made_url, controls: large, muted: true, loop: true, playsinline: true, preload: "metadata", "aria-label": alt });
  return h("img", { src: row.made_url, alt, class: "made", loading: "lazy", decoding: "async" });
}
