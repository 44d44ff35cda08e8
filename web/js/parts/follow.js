// The same prompt over the steps: where it came again, and how its rewards went.

import { h, styled } from "../dom.js";
import { number } from "../format.js";
import { groupPath } from "../router.js";

/** @import {HistoryPoint, Place} from "../types.js" */

/**
 * Nothing if the prompt came once.
 * @param {string} id
 * @param {HistoryPoint[]} points
 * @param {Place} here
 * @param {URLSearchParams} query What stays as it is from step to step.
 */
export function follow(id, points, here, query) {
  if (points.length < 2) return null;
  const lows = points.map((point) => point.min ?? 0);
  const highs = points.map((point) => point.max ?? 0);
  const low = Math.min(0, ...lows);
  const high = Math.max(...highs, low + 1e-9);
  const share = (/** @type {number | null} */ value) => (100 * ((value ?? low) - low)) / (high - low);
  return h(
    "section",
    { class: "follow", "aria-labelledby": "follow" },
    h("h2", { id: "follow" }, "This prompt over the steps"),
    h(
      "ol",
      { class: "steps" },
      points.map((point) => {
        const isHere = point.step === here.step && point.rank === here.rank && point.group === here.group;
        const range = styled(h("span", { class: "step-range" }), { bottom: `${share(point.min)}%`, height: `${Math.max(2, share(point.max) - share(point.min))}%` });
        const mean = styled(h("span", { class: "step-mean" }), { bottom: `${share(point.mean)}%` });
        return h("li", null, h("a", { href: groupPath(id, point, query), "aria-current": isHere ? "true" : null, title: `step ${point.step}: mean reward ${number(point.mean)}, ${number(point.min)} to ${number(point.max)}` },
          h("span", { class: "step-plot", "aria-hidden": "true" }, range, mean),
          h("span", { class: "step-name" }, h("span", { class: "unseen" }, "step "), String(point.step)),
          h("span", { class: "unseen" }, ` mean reward ${number(point.mean)}`)));
      }),
    ),
  );
}
