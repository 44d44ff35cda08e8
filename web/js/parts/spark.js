// A line of a few numbers, drawn small.

import { svg } from "../dom.js";
import { number } from "../format.js";

/**
 * @param {(number | null)[]} values In order; null = a gap.
 * @param {string} what Said to those who do not see it.
 */
export function spark(values, what) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known);
  const range = Math.max(...known) - low || 1;
  const width = 120;
  const height = 28;
  let path = "";
  let pen = "M";
  values.forEach((value, at) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = 2 + (at / Math.max(1, values.length - 1)) * (width - 4);
    path += `${pen}${x.toFixed(1)} ${(height - 3 - ((value - low) / range) * (height - 6)).toFixed(1)}`;
    pen = "L";
  });
  const said = known.length ? `${what} from ${number(known[0])} to ${number(known.at(-1))}` : `${what}: nothing yet`;
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said }, path && svg("path", { d: path }));
}
