// plotly's FigureWidget, started when it is shown. anywidget gives a widget two seconds to load and then drops every message
// to it; plotly's five megabytes take longer on a busy machine. What is loaded when the view is rendered may take its time,
// and all charts of a page share one copy.
const load = (model) =>
  (globalThis.licLabPlotly ??= import(
    URL.createObjectURL(new Blob([model.get("_bundle")], { type: "text/javascript" }))
  ));
const started = new WeakMap(); // plotly keeps one model, whatever the number of views

async function render({ model, el }) {
  el.classList.add("lab-live"); // and the picture for notebooks without a kernel is hidden
  el.append(Object.assign(document.createElement("style"), { textContent: model.get("_rule") }));
  const { default: plotly } = await load(model);
  if (!started.has(model)) {
    started.set(model, plotly());
    started.get(model).initialize({ model });
  }
  return started.get(model).render({ el });
}

export default { render };
