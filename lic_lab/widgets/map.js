// A picture or map as PNG, with a cursor on latent positions that follows the mouse and the arrow keys.
function render({ model, el }) {
  const make = (name, className) => Object.assign(document.createElement(name), { className });
  const figure = make("figure", "lab-map");
  const caption = make("figcaption", "lab-caption");
  const title = make("span", "lab-title");
  const readout = make("span", "lab-readout");
  const frame = make("div", "lab-frame");
  const img = make("img", "lab-image");
  const cursor = make("div", "lab-cursor");
  const legend = make("div", "lab-legend");
  readout.setAttribute("aria-live", "polite");
  img.draggable = false;
  caption.append(title, readout);
  frame.append(img, cursor);
  figure.append(caption, frame, legend);
  el.append(figure);

  // JupyterLab's command mode would take the arrow keys, and letters typed in a menu ("d d" deletes the cell).
  const keepKeys = () => {
    if (!el.isConnected) return requestAnimationFrame(keepKeys); // views are made before their parents are on the page
    const root = el.closest(".lic-lab") ?? figure;
    if (root.dataset.keys || !Object.keys(model.get("tips")).length) return; // one map does it for the workbench
    root.dataset.keys = "kept";
    // JupyterLab looks for the attribute from the focused element upwards, and its bindings match that element itself.
    root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
    const tip = ({ target }) => {
      const words = model.get("tips")[target.labels?.[0]?.textContent];
      if (words && !target.title) target.title = words;
    };
    root.addEventListener("pointerover", tip);
    root.addEventListener("focusin", tip);
  };
  keepKeys();

  let drawn = null;
  const urls = new Set(); // a picture may be replaced before it was loaded
  const forget = (but) => {
    for (const url of urls) {
      if (url === but) continue;
      URL.revokeObjectURL(url);
      urls.delete(url);
    }
  };
  const picture = () => {
    const bytes = model.get("value");
    drawn = bytes;
    frame.hidden = !bytes || !bytes.byteLength;
    if (frame.hidden) return;
    img.onload = () => {
      const thinnest = 16; // a line of 700 x 1 pixels is stretched, to be seen and clicked
      const aspect = Math.min(Math.max(img.naturalWidth / img.naturalHeight, 1 / thinnest), thinnest);
      figure.style.setProperty("--aspect", aspect);
      img.style.aspectRatio = aspect;
      forget(img.src);
      figure.dataset.run = model.get("run"); // what is now on the screen; tests and the speed benchmark wait for it
    };
    img.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    urls.add(img.src);
  };
  const count = () => {
    if (model.get("value") === drawn && img.complete) figure.dataset.run = model.get("run"); // the same picture again
  };
  const words = () => {
    title.textContent = model.get("title");
    readout.textContent = model.get("readout");
    img.alt = model.get("description");
    frame.title = model.get("tooltip");
    figure.dataset.map = model.get("name");
  };
  const place = () => {
    const [i, j] = model.get("position");
    const [h, w] = model.get("cell"); // a position's height and width as a fraction of the picture's
    const [rows, columns] = model.get("grid");
    const clickable = model.get("clickable");
    cursor.hidden = !rows || !clickable;
    const percent = (x) => `${100 * x}%`;
    Object.assign(cursor.style, {
      top: percent(i * h), left: percent(j * w),
      height: percent(Math.min(h, 1 - i * h)), width: percent(Math.min(w, 1 - j * w)),
    });
    if (!clickable) return frame.removeAttribute("tabindex");
    frame.tabIndex = 0;
    frame.classList.add("lab-clickable");
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-roledescription", "map");
    frame.setAttribute("aria-label",
      `${model.get("title")}. Row ${i} of ${rows}, column ${j} of ${columns}. Arrow keys move, with shift by 8.`);
  };
  const key = () => {
    const { low, high, unit, stops } = model.get("legend");
    legend.hidden = !stops;
    if (!stops) return;
    const bar = make("span", "lab-bar");
    bar.style.background = `linear-gradient(to right, ${stops})`;
    const text = (content, className) => Object.assign(make("span", className), { textContent: content });
    legend.replaceChildren(text(low, "lab-low"), bar, text(high, "lab-high"), text(unit, "lab-unit"));
  };

  const move = (i, j) => {
    const [rows, columns] = model.get("grid");
    const clamp = (x, n) => Math.max(0, Math.min(n - 1, x));
    model.set("position", [clamp(i, rows), clamp(j, columns)]);
    model.save_changes();
  };
  frame.addEventListener("click", (event) => {
    if (!model.get("clickable")) return;
    const box = img.getBoundingClientRect();
    const [h, w] = model.get("cell");
    move(Math.floor((event.clientY - box.top) / box.height / h), Math.floor((event.clientX - box.left) / box.width / w));
  });
  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  frame.addEventListener("keydown", (event) => {
    const step = arrows[event.key];
    if (!step || !model.get("clickable")) return;
    event.preventDefault();
    event.stopPropagation();
    const [i, j] = model.get("position");
    const far = event.shiftKey ? 8 : 1;
    move(i + far * step[0], j + far * step[1]);
  });

  const listeners = {
    "change:value": picture, "change:run": count, "change:title change:readout change:description change:tooltip": words,
    "change:position change:cell change:grid change:clickable change:title": place, "change:legend": key,
  };
  for (const [names, listener] of Object.entries(listeners)) {
    for (const name of names.split(" ")) model.on(name, listener);
    listener();
  }
  return () => {
    for (const [names, listener] of Object.entries(listeners)) {
      for (const name of names.split(" ")) model.off(name, listener);
    }
    forget();
  };
}
export default { render };
