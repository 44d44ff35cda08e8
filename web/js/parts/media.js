// The media of a prompt: a picture with zoom and pan under its overlay, or a film.

import { h, styled } from "../dom.js";
import { seconds } from "../format.js";
import { heatmap } from "./heatmap.js";
import { overlay } from "./overlay.js";
import { video } from "./video.js";

/** @import {Group, Media} from "../types.js" */
/** @typedef {{gold: boolean, predicted: boolean, votes: boolean}} Layers */

/**
 * All media of a group; boxes and points belong to the first picture.
 * @param {Group} group
 * @param {Layers} layers
 * @param {(row: number) => void} onPick
 * @param {(layers: Layers) => void} onLayers
 */
export function media(group, layers, onPick, onLayers) {
  const first = group.media.findIndex((one) => one.kind === "image" && !one.missing);
  /** @type {{pick: (row: number | null) => void}[]} */
  const picked = [];
  const elements = group.media.map((one, index) => {
    const title = group.media.length > 1 ? `${one.kind} ${index + 1}` : "";
    if (one.missing || !one.url) return missing(one, title);
    if (one.kind === "video") return video(one, title);
    const tile = index === first ? tileOf(group.meta) : "";
    if (index !== first) return picture(one, title, []).element;
    return annotated(one, (title + tile).trim());
  });
  return { element: h("div", { class: `media-list ${elements.length > 1 ? "many" : ""}` }, elements), pick: (/** @type {number | null} */ row) => picked.forEach((one) => one.pick(row)) };

  /**
   * @param {Media} one
   * @param {string} title
   */
  function annotated(one, title) {
    const drawn = overlay(one, group.gold, group.rows, onPick);
    const heat = heatmap(one, group.rows);
    picked.push(drawn);
    const show = () => {
      drawn.show(layers);
      heat.element.classList.toggle("off", !layers.votes);
      heat.legend.hidden = !layers.votes;
    };
    show();
    /** @param {keyof Layers} layer @param {string} text */
    const toggle = (layer, text) => {
      const button = h("button", { type: "button", class: `toggle toggle-${layer}`, "aria-pressed": String(layers[layer]), on: {
        click: () => {
          layers[layer] = !layers[layer];
          button.setAttribute("aria-pressed", String(layers[layer]));
          show();
          onLayers(layers);
        },
      } }, h("span", { class: "swatch", "aria-hidden": "true" }), text);
      return button;
    };
    const hasGold = group.gold.boxes.length + group.gold.points.length > 0;
    const hasMarks = group.rows.some((row) => row.predictions.boxes.length + row.predictions.points.length);
    const toggles = [hasGold && toggle("gold", "Gold"), hasMarks && toggle("predicted", "Predicted"), hasMarks && toggle("votes", "Votes")];
    const layersOver = hasGold || hasMarks ? [heat.element, drawn.element] : [];
    return picture(one, title, layersOver, [...toggles.filter((toggle) => toggle !== false)], [heat.legend]).element;
  }
}

/**
 * Where a tile lies in its picture, of `meta.tile` (data_pipelines/uav/cut.py).
 * @param {any} meta
 */
function tileOf(meta) {
  const box = meta?.tile?.box;
  return Array.isArray(box) && box.length === 4 ? ` tile (${box.map(Number).join(", ")}) of a larger picture` : "";
}

/**
 * A picture that can be enlarged and moved: by buttons, keys (+ − 0 and arrows), two fingers or Ctrl and the wheel.
 * @param {Media} one
 * @param {string} title
 * @param {Element[]} over
 * @param {HTMLElement[]} [tools]
 * @param {HTMLElement[]} [below]
 */
export function picture(one, title, over, tools = [], below = []) {
  let zoom = 1;
  let x = 0;
  let y = 0;
  const image = h("img", { src: one.url, alt: `${title || "The picture"} that the model saw, ${one.width} × ${one.height} pixels`, width: one.width || null, height: one.height || null, decoding: "async" });
  const inside = h("div", { class: `stage-inside ${Math.max(one.width, one.height) <= 256 ? "pixels" : ""}` }, image, over);
  const stage = h("div", { class: "stage", tabindex: "0", role: "group", "aria-label": `${title || "Picture"}: + and − zoom, arrows move`, on: { keydown: key, wheel, pointerdown: grab, dblclick: () => set(zoom > 1 ? 1 : 3) } }, inside);
  image.addEventListener("error", () => stage.replaceWith(missing(one, title)));

  /** @param {number} next @param {number} [cx] @param {number} [cy] The place that stays, shares of the stage. */
  function set(next, cx = 0.5, cy = 0.5) {
    next = Math.min(24, Math.max(1, next));
    const { width, height } = stage.getBoundingClientRect();
    x = cx * width - ((cx * width - x) / zoom) * next;
    y = cy * height - ((cy * height - y) / zoom) * next;
    zoom = next;
    move(0, 0);
  }
  /** @param {number} dx @param {number} dy */
  function move(dx, dy) {
    const { width, height } = stage.getBoundingClientRect();
    x = Math.min(0, Math.max(width * (1 - zoom), x + dx));
    y = Math.min(0, Math.max(height * (1 - zoom), y + dy));
    styled(inside, { transform: `translate(${x}px, ${y}px) scale(${zoom})` });
    stage.classList.toggle("zoomed", zoom > 1);
  }
  /** @param {any} event */
  function key(event) {
    const moves = /** @type {Record<string, () => void>} */ ({
      "+": () => set(zoom * 1.5), "=": () => set(zoom * 1.5), "-": () => set(zoom / 1.5), 0: () => set(1),
      ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
    });
    const wanted = moves[event.key];
    if (!wanted || event.ctrlKey || event.metaKey || (event.key.startsWith("Arrow") && zoom === 1)) return;
    event.preventDefault();
    wanted();
  }
  /** The page keeps its wheel unless the picture is asked for. @param {any} event */
  function wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { left, top, width, height } = stage.getBoundingClientRect();
    set(zoom * Math.exp(-event.deltaY / 200), (event.clientX - left) / width, (event.clientY - top) / height);
  }
  /** @param {any} event */
  function grab(event) {
    if (zoom === 1 || event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    let last = { x: event.clientX, y: event.clientY };
    const drag = (/** @type {PointerEvent} */ next) => {
      move(next.clientX - last.x, next.clientY - last.y);
      last = { x: next.clientX, y: next.clientY };
    };
    const drop = () => {
      stage.removeEventListener("pointermove", drag);
      stage.removeEventListener("pointerup", drop);
      stage.removeEventListener("pointercancel", drop);
    };
    stage.addEventListener("pointermove", drag);
    stage.addEventListener("pointerup", drop);
    stage.addEventListener("pointercancel", drop);
  }

  /** @param {string} text @param {string} label @param {() => void} run */
  const button = (text, label, run) => h("button", { type: "button", class: "plain icon", "aria-label": label, title: label, on: { click: run } }, text);
  const seen = one.seen_width && (one.seen_width !== one.width || one.seen_height !== one.height) ? `, seen as ${one.seen_width} × ${one.seen_height}` : "";
  const element = h(
    "figure",
    { class: "medium-figure" },
    h("div", { class: "media-tools" }, tools, h("span", { class: "spring" }), h("div", { class: "zoom" }, button("−", "Zoom out", () => set(zoom / 1.5)), button("+", "Zoom in", () => set(zoom * 1.5)), button("⤢", "Whole picture", () => set(1)))),
    stage,
    below,
    h("figcaption", { class: "muted" }, `${title ? `${title}: ` : ""}${one.width} × ${one.height}${seen}`),
  );
  return { element, set };
}

/**
 * @param {Media} one
 * @param {string} title
 */
export function missing(one, title) {
  const times = one.times.length ? `, ${one.times.length} frames to ${seconds(one.times.at(-1) ?? 0)}` : "";
  return h("div", { class: "missing", role: "note" }, h("b", null, `${title || one.kind} is not there`), h("span", { class: "muted" }, ` ${one.width} × ${one.height}${times}. ${one.file ? "Its file is gone or cannot be read." : "It was not kept with the run."}`));
}
