// Elements and times. Text is always a text node, so that no value of the API is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function h(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function s(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

/** Replace the children; the focus stays on the element with the same data-key. */
export function redraw(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
  if (key) focusOn(key);
}

export function focusOn(key) {
  document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** A length of time in words; `ms` in milliseconds. */
export function span(ms) {
  const seconds = Math.abs(ms) / 1000;
  if (seconds < 60) return `${seconds < 10 && seconds % 1 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

function age(at) {
  const ms = Math.floor((Date.now() - at) / 1000) * 1000;
  return ms === 0 ? "now" : ms > 0 ? `${span(ms)} ago` : `in ${span(ms)}`;
}

/** The time of day, with the date if it is another day. */
export function clock(at) {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}

/** How long ago `at` (Unix milliseconds) was. `tick` keeps it right. */
export function ago(at) {
  return h("time", { datetime: new Date(at).toISOString(), title: clock(at), "data-at": at }, age(at));
}

export function tick() {
  for (const time of document.querySelectorAll("time[data-at]")) {
    const text = age(Number(time.dataset.at));
    if (time.textContent !== text) time.textContent = text;
  }
}
