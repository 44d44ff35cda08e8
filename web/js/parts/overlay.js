// What is right and what was predicted, drawn over a picture in pixels of the stored image.

import { svg } from "../dom.js";

/** @import {Marks, Row} from "../types.js" */
/** @typedef {{gold: boolean, predicted: boolean}} Layers */

/**
 * @param {{width: number, height: number}} size
 * @param {Marks} gold
 * @param {Row[]} rows
 * @param {(row: number) => void} onPick
 */
export function overlay(size, gold, rows, onPick) {
  const goldLayer = svg("g", { class: "marks gold" }, gold.boxes.map((one) => box(one)), gold.points.map((one) => point(one)));
  const marks = rows.map((row) => {
    const side = (row.advantage ?? 0) < 0 ? "below" : (row.advantage ?? 0) > 0 ? "above" : "even";
    const { boxes, points } = row.predictions;
    return svg(
      "g",
      { class: `marks predicted ${side}`, "data-row": String(row.row), on: { click: () => onPick(row.row) } },
      boxes.map((one) => box(one)),
      points.map((one) => point(one)),
    );
  });
  const predictedLayer = svg("g", { class: "layer" }, marks);
  const element = svg(
    "svg",
    { class: "overlay", viewBox: `0 0 ${size.width} ${size.height}`, preserveAspectRatio: "none", role: "img", "aria-label": said(gold, rows), focusable: "false" },
    predictedLayer,
    goldLayer,
  );
  return {
    element,
    /** @param {Layers} layers */
    show(layers) {
      goldLayer.classList.toggle("off", !layers.gold);
      predictedLayer.classList.toggle("off", !layers.predicted);
    },
    /** @param {number | null} row */
    pick(row) {
      for (const mark of marks) mark.classList.toggle("picked", mark.dataset.row === String(row));
      const picked = marks.find((mark) => mark.classList.contains("picked"));
      if (picked) predictedLayer.append(picked);
    },
  };
}

/** Lines keep their width and points their size however far the picture is enlarged. @param {number[]} corners */
function box([x1 = 0, y1 = 0, x2 = 0, y2 = 0]) {
  const shape = { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1), "vector-effect": "non-scaling-stroke" };
  return svg("g", null, svg("rect", { ...shape, class: "halo" }), svg("rect", { ...shape, class: "line" }));
}

/** @param {number[]} place */
function point([x = 0, y = 0]) {
  const shape = { d: `M${x} ${y}h0`, "vector-effect": "non-scaling-stroke" };
  return svg("g", { class: "point" }, svg("path", { ...shape, class: "halo" }), svg("path", { ...shape, class: "line" }));
}

/**
 * @param {Marks} gold
 * @param {Row[]} rows
 */
function said(gold, rows) {
  /** @param {number[][]} shapes */
  const list = (shapes) => shapes.map((shape) => `(${shape.map((value) => Math.round(value)).join(", ")})`).join(" ");
  const right = [...gold.boxes, ...gold.points].length ? `Gold ${list([...gold.boxes, ...gold.points])}. ` : "";
  const predicted = rows.map((row, at) => ({ at, marks: [...row.predictions.boxes, ...row.predictions.points] })).filter(({ marks }) => marks.length);
  return `${right}${predicted.map(({ at, marks }) => `Completion ${at + 1}: ${list(marks)}`).join(". ") || "No prediction is drawn"}.`;
}
