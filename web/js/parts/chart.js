// Curves over steps, by Plotly: it is loaded when the first curve is drawn, from the Python package `plotly`.

import { h, plain } from "../dom.js";
import { number } from "../format.js";
import { colour } from "../theming.js";

/** @typedef {{name: string, values: (number | null)[], steps: number[], faint?: boolean}} Line */
/** @typedef {{title: string, lines: Line[], stacked?: boolean, share?: boolean}} Panel */

/** Of Okabe and Ito: told apart with any colour vision. Custom properties of the style sheet. */
export const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6", "--line-7"];

/** @type {Promise<void> | undefined} */
let loading;

/** @returns {Promise<void>} */
function load() {
  loading ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "/vendor/plotly.min.js";
    script.onload = () => done();
    script.onerror = () => failed(new Error("The drawing library did not load."));
    document.head.append(script);
  });
  return loading;
}

/**
 * A figure with a curve per line; `draw` draws it anew, with new numbers or in a new theme.
 * @param {Panel} panel
 * @param {(step: number) => void} [onStep] A point was chosen.
 * @returns {{element: HTMLElement, draw: (panel?: Panel) => Promise<void>}}
 */
export function chart(panel, onStep) {
  const plot = h("div", { class: "plot", "aria-hidden": "true" });
  const last = h("p", { class: "last" });
  const element = h("figure", { class: "chart" }, h("figcaption", null, h("h3", null, panel.title), last), plot);
  let now = panel;
  let listening = false;

  /** @param {Panel} [next] */
  async function draw(next) {
    now = next ?? now;
    last.replaceChildren(legend(now));
    await load();
    if (!element.isConnected || !window.Plotly) return;
    const drawn = await window.Plotly.react(plot, traces(now), layout(plot.clientWidth, now), { displayModeBar: false, doubleClick: "reset" });
    document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true"); // where Plotly measures text
    if (!listening && onStep && drawn.on) {
      listening = true;
      drawn.on("plotly_click", (event) => {
        const step = event.points[0]?.x;
        if (step !== undefined) onStep(step);
      });
    }
  }
  return { element, draw };
}

/**
 * Every line's name, colour and last number: the figure in words.
 * @param {Panel} panel
 */
function legend(panel) {
  return h(
    "span",
    { class: "legend" },
    panel.lines.map((line, at) => {
      const value = line.values.findLast((found) => found !== null);
      const key = h("span", { class: "key", "data-line": String((at % LINES.length) + 1), "aria-hidden": "true" });
      return h("span", { class: "entry" }, key, panel.lines.length > 1 || line.name !== panel.title ? `${line.name} ` : "", h("b", null, number(value)));
    }),
  );
}

/** @param {Panel} panel */
function traces(panel) {
  return panel.lines.map((line, at) => {
    const ink = colour(LINES[at % LINES.length] ?? "");
    return {
      x: line.steps,
      y: line.values,
      name: escaped(line.name),
      mode: line.steps.length === 1 ? "markers" : "lines",
      line: { color: ink, width: 2, ...(line.faint ? { dash: "dot" } : {}) },
      marker: { color: ink, size: 6 },
      ...(panel.stacked ? { stackgroup: "all", fillcolor: ink, line: { width: 0 }, opacity: 0.8 } : {}),
      hovertemplate: "%{y:.4~g}",
    };
  });
}

/**
 * @param {number} width
 * @param {Panel} panel
 */
function layout(width, panel) {
  const axis = { gridcolor: colour("--rule"), linecolor: colour("--rule"), zeroline: false, fixedrange: false, automargin: true };
  return {
    width: Math.max(200, width),
    height: 170,
    margin: { l: 36, r: 8, t: 6, b: 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 11, color: colour("--muted") },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
    dragmode: "zoom",
    xaxis: { ...axis, showgrid: false, tickformat: "d", nticks: 6 },
    yaxis: { ...axis, nticks: 5, ...(panel.share ? { range: [-0.02, 1.02] } : {}) },
  };
}

/**
 * Plotly reads a few tags in names; here they are text.
 * @param {string} text
 */
function escaped(text) {
  return plain(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
