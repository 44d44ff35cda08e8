// A film: the frames that the model saw with their times, and a player for the whole file.

import { h } from "../dom.js";
import { counted, seconds } from "../format.js";

/** @import {Media} from "../types.js" */

/**
 * @param {Media} one
 * @param {string} title
 */
export function video(one, title) {
  const player = h("video", { class: "player", src: one.url, controls: true, muted: true, playsinline: true, preload: "metadata", "aria-label": `${title || "The film"} of the prompt` });
  const trouble = h("p", { class: "muted", hidden: true }, "This browser does not play the file; the frames are what the model saw.");
  player.addEventListener("error", () => {
    trouble.hidden = false;
    player.hidden = true;
  });

  const frames = one.times.map((time, index) => {
    const url = one.frame_urls[index];
    const seek = () => {
      player.currentTime = time;
      player.pause();
    };
    return h(
      "li",
      null,
      h(
        "button",
        { type: "button", class: "frame", "data-time": String(time), title: `frame ${index + 1} of ${one.times.length}`, on: { click: seek } },
        url ? h("img", { src: url, alt: `Frame at ${seconds(time)}`, loading: "lazy", decoding: "async" }) : null,
        h("span", { class: "time" }, seconds(time)),
      ),
    );
  });
  player.addEventListener("timeupdate", () => {
    const at = one.times.findLastIndex((time) => time <= player.currentTime + 0.01);
    frames.forEach((frame, index) => frame.classList.toggle("now", index === at));
  });
  return h(
    "figure",
    { class: "medium-figure film" },
    h("ol", { class: "strip", "aria-label": "Frames the model saw", tabindex: "0" }, frames),
    h("figcaption", { class: "muted" }, `${title ? `${title}: ` : ""}${counted(one.times.length, "frame")} seen${one.seen_width ? ` at ${one.seen_width} × ${one.seen_height}` : ""}, stored ${one.width} × ${one.height}`),
    player,
    trouble,
  );
}
