// The page: the bar above, and what the address asks for below it.

import { announce, fill, h, name, plain } from "./dom.js";
import { start as listen, showHelp, use } from "./keyboard.js";
import { start, runPath } from "./router.js";
import { isDark, setTheme } from "./theming.js";
import { compare } from "./pages/compare.js";
import { group } from "./pages/group.js";
import { run } from "./pages/run.js";
import { runs } from "./pages/runs.js";

/**
 * A page draws itself into `main` and returns what ends it.
 * @typedef {(main: HTMLElement, route: import("./router.js").Route) => Promise<{title: string, end?: () => void, isData?: boolean}>} Page
 */

/** @type {Record<string, Page>} */
const PAGES = { runs, compare, run, group };

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
/** @type {(() => void) | undefined} */
let end;
let turn = 0;
let first = true;
/** Milliseconds for which the earlier page stays while the next one is asked for. */
const PATIENCE = 400;

listen();
start(async (route) => {
  const mine = ++turn;
  end?.();
  end = undefined;
  use({});
  bar(route);
  const page = PAGES[route.page];
  setTimeout(() => turn === mine && !done && fill(main, h("p", { class: "empty" }, "Loading …")), PATIENCE);
  const inside = h("div", { class: `page page-${route.page}` });
  let title = "Not found";
  let done = false;
  try {
    if (!page) throw new Error("There is no such page. The list of runs is behind the name at the top.");
    const drawn = await page(inside, route);
    if (mine !== turn) return drawn.end?.();
    title = drawn.title;
    end = drawn.end;
    if (drawn.isData) document.querySelectorAll("#bar .of-run").forEach((crumb) => crumb.remove());
  } catch (error) {
    if (mine !== turn) return;
    fill(inside, trouble(error));
  }
  done = true;
  fill(main, inside);
  document.title = plain(`${title} · mmrl`);
  if (!first) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
    announce(title);
  }
  first = false;
});

/** @param {unknown} error */
function trouble(error) {
  return h("section", { class: "trouble", role: "alert" }, h("h1", null, "This cannot be shown"), h("p", null, String(error instanceof Error ? error.message : error)));
}

/** @param {import("./router.js").Route} route */
function bar(route) {
  const id = route.parts[0] === "run" ? route.parts[1] : undefined;
  const [step, , number] = route.parts.slice(3);
  const theme = h("button", { type: "button", class: "plain icon", on: { click: () => label(setTheme()) } });
  const label = (/** @type {boolean} */ dark) => {
    theme.textContent = dark ? "☀" : "☾";
    theme.setAttribute("aria-label", dark ? "Light theme" : "Dark theme");
    theme.title = dark ? "Light theme" : "Dark theme";
  };
  label(isDark());
  fill(
    /** @type {HTMLElement} */ (document.getElementById("bar")),
    h(
      "nav",
      { "aria-label": "Where you are", class: "crumbs" },
      h("a", { href: "/", class: "brand" }, "mmrl"),
      id && h("span", { class: "slash", "aria-hidden": "true" }, "/"),
      id && h("a", { href: runPath(id), "aria-current": route.page === "run" ? "page" : null }, name(id)),
      step && h("span", { class: "slash of-run", "aria-hidden": "true" }, "/"),
      step && h("a", { href: runPath(id ?? "", { tab: "groups", step }), class: "of-run" }, `step ${step}`),
      number && h("span", { class: "slash", "aria-hidden": "true" }, "/"),
      number && h("span", { "aria-current": "page" }, h("span", { class: "of-run" }, "group "), number),
    ),
    h("button", { type: "button", class: "plain icon", "aria-label": "Keys", title: "Keys (?)", on: { click: showHelp } }, "?"),
    theme,
  );
}
