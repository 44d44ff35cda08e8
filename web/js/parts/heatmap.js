// Where the regions of a group agree: how many completions chose each place of the picture.

import { h } from "../dom.js";
import { counted } from "../format.js";

/** @import {Row} from "../types.js" */

/** Cells along the longer side of a picture. */
const CELLS = 128;
/** A point votes for a square around it: this share of the longer side. */
const SQUARE = 0.12;

/**
 * Votes on a grid, [rows × columns]; a completion has one vote per cell, however many of its boxes cover it.
 * @param {{width: number, height: number}} size
 * @param {Row[]} rows
 */
export function votes(size, rows) {
  const cell = Math.max(size.width, size.height) / CELLS;
  const columns = Math.max(1, Math.ceil(size.width / cell));
  const lines = Math.max(1, Math.ceil(size.height / cell));
  const grid = new Uint16Array(columns * lines);
  const half = (SQUARE * Math.max(size.width, size.height)) / 2;
  let most = 0;
  for (const { predictions } of rows) {
    const squares = predictions.boxes.length ? [] : predictions.points.map(([x = 0, y = 0]) => [x - half, y - half, x + half, y + half]);
    const mine = new Set();
    for (const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] of [...predictions.boxes, ...squares]) {
      for (let line = Math.max(0, Math.round(y1 / cell)); line < Math.min(lines, Math.round(y2 / cell)); line++) {
        for (let column = Math.max(0, Math.round(x1 / cell)); column < Math.min(columns, Math.round(x2 / cell)); column++) mine.add(line * columns + column);
      }
    }
    for (const at of mine) most = Math.max(most, (grid[at] = (grid[at] ?? 0) + 1));
  }
  return { grid, columns, lines, most };
}

/**
 * A transparent layer over the picture, and its legend.
 * @param {{width: number, height: number}} size
 * @param {Row[]} rows
 */
export function heatmap(size, rows) {
  const { grid, columns, lines, most } = votes(size, rows);
  const element = h("canvas", { class: "heat off", width: columns, height: lines, role: "img", "aria-label": `Votes: at most ${most} of ${rows.length} completions agree on a place` });
  const context = element.getContext("2d");
  if (context && most) {
    const picture = context.createImageData(columns, lines);
    grid.forEach((count, at) => picture.data.set(heat(count / most), at * 4));
    context.putImageData(picture, 0, 0);
  }
  const isPoints = rows.every((row) => !row.predictions.boxes.length);
  const legend = h("p", { class: "heat-legend muted" }, isPoints ? "Votes, a point for a square around it: none" : "Votes: none", h("span", { class: "ramp heat-ramp", "aria-hidden": "true" }), `${counted(most, "completion")} of ${rows.length}`);
  return { element, legend, most };
}

/**
 * From nothing over violet and red to yellow, lighter with every vote: told apart without colour as well.
 * @param {number} share
 * @returns {[number, number, number, number]}
 */
function heat(share) {
  if (share <= 0) return [0, 0, 0, 0];
  const stops = [[58, 12, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]];
  const at = Math.min(stops.length - 1.001, share * (stops.length - 1));
  const from = stops[Math.floor(at)] ?? [0, 0, 0];
  const to = stops[Math.floor(at) + 1] ?? from;
  const mix = (/** @type {number} */ i) => Math.round((from[i] ?? 0) + ((to[i] ?? 0) - (from[i] ?? 0)) * (at % 1));
  return [mix(0), mix(1), mix(2), Math.round(90 + 130 * share)];
}
