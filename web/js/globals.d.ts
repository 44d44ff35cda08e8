// Plotly, as far as this page uses it; the library itself comes from the Python package `plotly`.
interface PlotElement extends HTMLDivElement {
  on?(event: "plotly_click", handler: (event: { points: { x: number }[] }) => void): void;
}
interface Window {
  Plotly?: {
    react(element: HTMLElement, data: object[], layout: object, config: object): Promise<PlotElement>;
    purge(element: HTMLElement): void;
  };
}
