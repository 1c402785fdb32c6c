// A button that sends a file of any size: in pieces, since servers drop the connection at a message of 10 MB.
const PIECE = 1 << 20;

function render({ model, el }) {
  const make = (name, className) => Object.assign(document.createElement(name), { className });
  const button = Object.assign(make("button", "lab-upload jupyter-button"), { type: "button" });
  const input = Object.assign(make("input"), { type: "file", accept: "image/*,.tif,.tiff", hidden: true, tabIndex: -1 });
  const said = make("div", "lab-upload-words");
  said.setAttribute("role", "alert");
  el.append(button, input, said);

  let sending = null; // the file on its way: { id, answered, refused }
  const words = () => {
    button.textContent = sending ? sending.words : model.get("description");
    button.title = sending ? "Click to stop" : model.get("tooltip");
    button.disabled = model.get("disabled");
    button.style.setProperty("--done", `${100 * (sending?.done ?? 0)}%`);
  };
  const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(0)} MB`);

  const send = async (file) => {
    said.textContent = "";
    const limit = model.get("limit");
    if (file.size > limit) {
      said.textContent =
        `${file.name} has ${size(file.size)}; up to ${size(limit)} can be uploaded. Give a larger file by its path, or shrink it.`;
      return;
    }
    const mine = { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), done: 0 };
    sending = mine;
    try {
      let offset = 0;
      do { // an empty file is one empty piece
        const piece = await file.slice(offset, offset + PIECE).arrayBuffer();
        if (sending !== mine) return;
        mine.words = `Sending ${Math.floor((100 * offset) / Math.max(file.size, 1))} %`;
        mine.done = offset / Math.max(file.size, 1);
        words();
        const answer = new Promise((resolve) => (mine.answered = resolve));
        model.send({ id: mine.id, name: file.name, size: file.size, offset }, undefined, [piece]);
        if (!(await answer)) return; // Python has said why
        offset += piece.byteLength;
        if (!piece.byteLength) break;
      } while (offset < file.size);
    } catch (error) { // the file was moved or changed meanwhile
      if (sending === mine) said.textContent = `${file.name} can't be read: ${error.message}`;
    } finally {
      if (sending === mine) sending = null;
      words();
    }
  };
  const answer = (content) => {
    if (sending?.id === content.id) sending.answered?.(content.goes_on);
  };

  button.addEventListener("click", () => {
    if (!sending) return input.click();
    const stopped = sending;
    sending = null;
    stopped.answered?.(false);
    words();
  });
  input.addEventListener("change", () => {
    const file = input.files[0];
    input.value = ""; // so that the same file can be chosen again
    if (file) send(file);
  });
  model.on("msg:custom", answer);
  const names = ["description", "tooltip", "disabled"].map((name) => `change:${name}`);
  names.forEach((name) => model.on(name, words));
  words();
  return () => {
    sending = null;
    model.off("msg:custom", answer);
    names.forEach((name) => model.off(name, words));
  };
}
export default { render };
