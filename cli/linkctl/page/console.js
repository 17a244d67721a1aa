// What is shown, and when it is looked at again.

import { Failed, session } from "./api.js";
import { ago, h, redraw, tick } from "./dom.js";
import { list } from "./list.js";
import { resource } from "./resource.js";

const MAX_WAIT_SECONDS = 60;
const SAID_MS = 15_000;
const main = document.getElementById("main");
const again = document.getElementById("again");
const place = (id) => document.getElementById(id);

let about, view, timer, saying;
let failures = 0;
let looking = new AbortController();

async function look() {
  clearTimeout(timer);
  looking.abort();
  if (!view || document.hidden) return;
  const mine = (looking = new AbortController());
  try {
    const { calls, ...seen } = await view.load(mine.signal);
    if (mine.signal.aborted) return;
    view.draw(seen);
    failures = 0;
    place("trouble").textContent = "";
    const cost = calls === 1 ? "1 call" : `${calls} calls`;
    place("looked").replaceChildren("Looked ", ago(Date.now()), `, ${cost} of the API, every ${view.seconds} s`);
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error.status === 401) {
      locked(error);
      return;
    }
    failures += 1;
    const text = error instanceof Failed ? error.message : `The page has a fault: ${error}`;
    place("trouble").textContent = `${text}\nWhat is shown may be old. The next try is in ${wait()} s.`;
  }
  timer = setTimeout(look, wait() * 1000);
}

function wait() {
  return Math.min(MAX_WAIT_SECONDS, view.seconds * 2 ** failures);
}

function show() {
  const hash = location.hash;
  if (hash.length > 1 && !hash.startsWith("#/")) {
    location.reload(); // Another link of linkctl was opened in this tab.
    return;
  }
  view?.leave?.();
  failures = 0;
  place("trouble").textContent = "";
  const id = hash.startsWith("#/resource/") ? decodeURIComponent(hash.slice("#/resource/".length)) : null;
  document.title = `${id ?? "Resources"} – linkctl console`;
  main.replaceChildren(h("p", null, "Looking …"));
  view = id === null ? list(main, look) : resource(main, id, about, done, look);
  look();
}

/** Say what an action did, and look at it. */
function done(text) {
  place("said").textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => (place("said").textContent = ""), SAID_MS);
  look();
}

function locked(error) {
  view = null;
  again.hidden = true;
  place("looked").textContent = "";
  redraw(
    main,
    h("h1", null, "The console is locked"),
    h("p", null, error.message),
    h("p", null, "The newest link is in the terminal in which linkctl console runs. It opens one browser, once."),
  );
}

async function start() {
  try {
    about = await session();
  } catch (error) {
    locked(error);
    return;
  }
  place("api").textContent = `${about.api}${about.read_only ? " (read only)" : ""}`;
  again.hidden = false;
  again.addEventListener("click", look);
  window.addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", look);
  setInterval(tick, 1000);
  show();
}

start();
