// Functions that tests run in a page. `conftest.py` evaluates this file and calls one of them.
({
  /** Text whose contrast with its ground is under 4.5 (WCAG AA): "ratio colours: text". */
  faint() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const over = (colour, under) => {
      context.clearRect(0, 0, 1, 1);
      for (const one of [under, colour]) {
        context.fillStyle = one;
        context.fillRect(0, 0, 1, 1);
      }
      const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
      return `rgb(${r} ${g} ${b})`;
    };
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const light = (colour) => {
      const [r, g, b] = colour.match(/[\d.]+/g).map((value) => linear(value / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
      const colours = [];
      for (let e = element; e; e = e.parentElement) colours.unshift(getComputedStyle(e).backgroundColor);
      return colours.reduce((under, colour) => over(colour, under), "rgb(255 255 255)");
    };
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.trim();
      const element = walker.currentNode.parentElement;
      if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
      if (element.closest(".unseen, .skip, [aria-hidden=true], .off, option")) continue;
      const under = ground(element);
      const ink = over(getComputedStyle(element).color, under);
      const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < 4.5) found.add(`${ratio.toFixed(2)} ${ink} on ${under}: ${text.slice(0, 40)}`);
    }
    return [...found];
  },

  /** What can be clicked and not reached by the Tab key. */
  unreachable() {
    const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0'], video[controls]");
    const seen = [...all].filter((e) => !e.disabled && e.checkVisibility({ visibilityProperty: true }));
    return seen.filter((e) => e.tabIndex < 0).map((e) => e.outerHTML.slice(0, 120));
  },

  /** What has the focus, if that cannot be seen. */
  unseenFocus() {
    const e = document.activeElement;
    if (!e || e === document.body || e.localName === "video") return [];
    const shows = (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
    return shows(getComputedStyle(e)) || shows(getComputedStyle(e, "::after")) ? [] : [e.outerHTML.slice(0, 120)];
  },

  /** Elements and attributes that could run something and are not the page's own scripts. */
  strange() {
    const never = ["script", "style", "iframe", "object", "embed", "base", "foreignObject"];
    const isOwn = (e) => e.localName === "script" && e.src && new URL(e.src).origin === location.origin;
    const runs = ({ name, value }) => name.startsWith("on") || /^\s*javascript:/i.test(value);
    const found = [...document.querySelectorAll("*")].filter((e) => (never.includes(e.localName) && !isOwn(e)) || [...e.attributes].some(runs));
    return found.map((e) => e.outerHTML.slice(0, 200));
  },

  /** What the builder of elements says to things that could run or lead elsewhere. */
  async refused() {
    const { h, svg } = await import("/js/dom.js");
    const tries = [
      () => h("script"), () => h("iframe"), () => h("style"), () => svg("foreignObject"),
      () => h("div", { onclick: "x" }), () => h("div", { style: "x" }), () => h("div", { srcdoc: "x" }),
      () => h("a", { href: "javascript:1" }), () => h("a", { href: "\u0001javascript:1" }), () => h("a", { href: "//evil.example" }),
      () => h("a", { href: "/\\evil.example" }), () => h("img", { src: "https://evil.example/x.png" }), () => h("img", { src: "data:image/svg+xml,x" }),
    ];
    return tries.map((attempt) => {
      try {
        attempt();
        return "built";
      } catch {
        return "refused";
      }
    });
  },
});
