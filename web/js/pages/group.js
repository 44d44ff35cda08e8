// One group: prompt and media on the left, once; completions on the right, the best first.

import * as api from "../api.js";
import { announce, fill, h, name } from "../dom.js";
import { counted, number, words } from "../format.js";
import { step as stepTo, use } from "../keyboard.js";
import { changed, go, groupPath, runPath, update } from "../router.js";
import { answers } from "../parts/answers.js";
import { follow } from "../parts/follow.js";
import { media } from "../parts/media.js";
import { pictures } from "../parts/pictures.js";
import { known, prompt } from "../parts/prompt.js";
import { rowCard } from "../parts/row.js";
import { sizes } from "../parts/scores.js";
import { choice, fact, troubles } from "../parts/small.js";
import { timeline } from "../parts/timeline.js";
import { scale, tokenLegend } from "../parts/tokens.js";

/** @import {Place, Tokens} from "../types.js" */

/** What tokens can be coloured by: what was recorded, and the log-ratio where the server can take the difference. @param {string[]} recorded */
function coloured(recorded) {
  const both = recorded.includes("logp_old") && recorded.includes("logp_rollout") && !recorded.includes("log_ratio");
  return both ? [...recorded, "log_ratio"] : recorded;
}

/** @type {import("../app.js").Page} */
export async function group(main, route) {
  const id = route.parts[1] ?? "";
  const [step = 0, rank = 0, index = 0] = route.parts.slice(3).map(Number);
  const here = { step, rank, group: index };
  const [info, found] = await Promise.all([api.run(id), api.group(id, here)]);
  const query = route.query;
  const q = query.get("q") ?? "";
  const isMade = found.rows.some((row) => row.made_url);
  const off = new Set((query.get("hide") ?? "").split(".").filter(Boolean));
  const layers = { gold: !off.has("gold"), predicted: !off.has("predicted"), votes: query.get("votes") === "true" };
  let folded = query.get("think") !== "open";
  let colours = query.get("colour") ?? "";
  let picked = query.has("row") ? Number(query.get("row")) : null;

  const bars = sizes(found.rows);
  const cards = found.rows.map((row, at) => rowCard(id, here, row, { at, q, weights: found.weights, sizes: bars, onPick: () => pick(row.row) }));
  const legend = h("div", { class: "legend-place" });
  const list = h("div", { class: `completions ${isMade ? "of-pictures" : ""}` }, cards.map((card) => card.element));
  const grid = isMade ? pictures(found, (row) => pick(row)) : null;

  // -- left: what was asked, and what was seen --------------------------------------------------------------------

  const seen = media(found, layers, (row) => pick(row), (layers) => {
    const hidden = ["gold", "predicted"].filter((layer) => !layers[/** @type {"gold"} */ (layer)]).join(".");
    update({ hide: hidden, votes: layers.votes });
  });
  const spans = timeline(found, (row) => pick(row));
  const over = h("div");
  const left = h(
    "section",
    { class: "asked", "aria-label": "Prompt and media" },
    prompt(found.messages, q),
    seen.element,
    spans,
    isMade ? null : answers(found),
    isMade ? list : null,
    over,
    known(found.target, found.meta, found.coordinates),
  );

  // -- right: what was said or made ---------------------------------------------------------------------------------

  const hasTokens = found.rows.some((row) => row.has_tokens);
  const signals = hasTokens ? coloured(info.columns.signals) : [];
  const hasThoughts = found.rows.some((row) => row.completion.includes("</think>") || row.completion.includes("<think>"));
  const tools = h(
    "div",
    { class: "tools" },
    signals.length
      ? choice("Colour the tokens by", [["", isMade ? "Plain" : "Text"], ...signals.map((signal) => /** @type {[string, string]} */ ([signal, words(signal)]))], colours, (next) => {
          colours = next;
          update({ colour: next });
          void paint();
        })
      : null,
    hasThoughts
      ? choice("Thinking", [["folded", "Thinking folded"], ["open", "open"]], folded ? "folded" : "open", (next) => {
          folded = next === "folded";
          update({ think: folded ? null : "open" });
          void paint();
        })
      : null,
  );
  const right = h(
    "section",
    { class: "answered", "aria-label": isMade ? "Pictures" : "Completions" },
    h("div", { class: "between" }, h("h2", null, isMade ? counted(found.rows.length, "picture") : counted(found.rows.length, "completion")), tools),
    legend,
    isMade ? grid : list,
  );

  /** @type {Map<number, Tokens>} */
  const tokensOf = new Map();
  /** Completions as plain text, or with every token coloured. */
  async function paint() {
    const wanted = colours;
    if (!wanted || !tokensOf.size) cards.forEach((card) => card.plain(folded));
    if (!wanted) return fill(legend);
    await Promise.all(found.rows.map(async (row) => {
      if (row.has_tokens && !tokensOf.has(row.row)) {
        try {
          tokensOf.set(row.row, await api.tokens(id, here, row.row));
        } catch (error) {
          announce(error instanceof Error ? error.message : String(error));
        }
      }
    }));
    if (wanted !== colours) return;
    const range = scale([...tokensOf.values()], wanted);
    fill(legend, tokenLegend(wanted, range));
    found.rows.forEach((row, at) => {
      const tokens = tokensOf.get(row.row);
      if (tokens) cards[at]?.coloured(tokens, wanted, range, folded);
      else cards[at]?.plain(folded);
    });
  }

  /** One completion is looked at: its card, its marks, the address. @param {number | null} row @param {boolean} [scroll] */
  function pick(row, scroll = true) {
    picked = row;
    update({ row });
    cards.forEach((card) => card.element.classList.toggle("current", card.row.row === row));
    seen.pick(row);
    for (const one of main.querySelectorAll("[data-row].time-row, .tile")) one.classList.toggle("picked", one.getAttribute("data-row") === String(row));
    const card = cards.find((card) => card.row.row === row);
    if (scroll && card) card.element.scrollIntoView({ block: "nearest" });
  }

  // -- the page -----------------------------------------------------------------------------------------------------

  const rewards = found.rows.map((row) => row.reward).filter((reward) => reward !== null);
  const mean = rewards.length ? rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length : null;
  const stays = changed(query, { row: null });
  /** @param {Place | null} place @param {string} text @param {string} label */
  const link = (place, text, label) => place ? h("a", { class: "button plain", href: groupPath(id, place, stays), "aria-label": label, title: label }, text) : h("span", { class: "button plain off", "aria-hidden": "true" }, text);
  const isData = info.kind === "dataset";
  const steps = info.step_list;
  const at = steps.indexOf(step);
  const beside = (/** @type {number} */ by) => (at < 0 || steps[at + by] === undefined ? null : { ...here, step: steps[at + by] ?? 0 });
  fill(
    main,
    h(
      "div",
      { class: "heading" },
      h("h1", { class: "id" }, name(found.sample_id)),
      h("nav", { class: "tools", "aria-label": "Other groups" },
        link(found.previous, "↑", isData ? "Previous sample (p)" : "Previous group (p)"), link(found.next, "↓", isData ? "Next sample (n)" : "Next group (n)"),
        isData ? null : [link(beside(-1), "← step", "Earlier step ([)"), link(beside(1), "step →", "Later step (])"), h("button", { type: "button", class: "plain", on: { click: () => void save() } }, "Save as JSONL")]),
    ),
    isData ? null : h("dl", { class: "facts" }, fact("Step", String(step)), fact("Mean reward", number(mean)), fact("Completions", String(found.rows.length)), fact("Best", number(Math.max(...rewards))), fact("Worst", number(Math.min(...rewards)))),
    troubles(found.problems),
    h("div", { class: `group ${isData || !found.rows.length ? "alone" : ""}` }, left, found.rows.length ? right : null),
  );
  void paint();
  if (picked !== null) setTimeout(() => pick(picked));
  else if (isMade) setTimeout(() => pick(found.rows[0]?.row ?? null, false));
  if (!isData) void api.history(id, found.sample_id).then(({ points }) => fill(over, follow(id, points, here, stays)), () => {});

  async function save() {
    try {
      const selection = found.rows.map((row) => ({ step, rank, row: row.row }));
      announce(`Saved ${await api.download({ run: id, form: "jsonl", selection })}`);
    } catch (error) {
      announce(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {Place | null} place */
  const to = (place) => place && go(groupPath(id, place, stays));
  /** @param {number} by */
  const move = (by) => {
    const next = stepTo(cards.map((card) => card.element), by);
    const card = cards.find((card) => card.element === next);
    if (card) pick(card.row.row);
    card?.element.focus({ preventScroll: true });
  };
  use({
    j: ["next completion", () => move(1)],
    k: ["previous completion", () => move(-1)],
    n: ["next group", () => to(found.next)],
    p: ["previous group", () => to(found.previous)],
    "[": ["earlier step", () => to(beside(-1))],
    "]": ["later step", () => to(beside(1))],
    s: ["star the completion", () => cards.find((card) => card.row.row === picked)?.star()],
    g: ["gold on or off", () => press("gold")],
    v: ["votes on or off", () => press("votes")],
    "/": ["search", () => go(runPath(id, { tab: isData ? "groups" : "rows" }))],
  });
  /** @param {string} layer */
  const press = (layer) => /** @type {HTMLElement | null} */ (main.querySelector(`.toggle-${layer}`))?.click();
  return { title: isData ? found.sample_id : `${found.sample_id} · step ${step}`, isData };
}
