// All resources.

import { call } from "./api.js";
import { ago, h, redraw } from "./dom.js";

const PAGE = 1000; // the API's largest
const ROWS = 200;

const FILTERS = {
  all: ["All", () => true],
  none: ["No active endpoint", (one) => one.holder === null],
  undelivered: ["Undelivered", (one) => one.undelivered > 0],
  frozen: ["Frozen", (one) => one.frozen],
};

// They stay when another view is shown in between.
const chosen = { text: "", filter: "all", pages: 1, rows: ROWS };

export function list(main, look) {
  let seen, last;
  const search = h("input", { id: "search", type: "search", autocomplete: "off", spellcheck: "false", oninput: typed });
  search.value = chosen.text;
  const filters = Object.entries(FILTERS).map(([name]) =>
    h("button", { type: "button", onclick: () => choose({ filter: name }), "data-key": `filter ${name}` }),
  );
  const rows = h("tbody", { role: "rowgroup" });
  const count = h("p", { role: "status" });
  const more = h("p");
  main.replaceChildren(
    h("h1", null, "Resources"),
    h("p", null, h("label", { for: "search" }, "Search for a resource, an active host or endpoint "), search),
    h("div", { class: "filters", role: "group", "aria-label": "Show" }, filters),
    count,
    h(
      "table",
      { role: "table", class: "resources", "aria-label": "Resources" },
      h("thead", { role: "rowgroup" }, headings("Resource", "Active", "Since", "State")),
      rows,
    ),
    more,
  );

  function typed() {
    choose({ text: search.value.trim().toLowerCase() });
  }

  function choose(change) {
    Object.assign(chosen, { rows: ROWS }, change);
    if (seen) draw(seen);
  }

  async function load(signal) {
    const found = [];
    let calls = 0;
    let after;
    do {
      const from = after === undefined ? "" : `&after=${encodeURIComponent(after)}`;
      const answer = await call("GET", `/resources?limit=${PAGE}${from}`, null, signal);
      found.push(...answer.resources);
      after = answer.next;
      calls += 1;
    } while (after !== undefined && calls < chosen.pages);
    return { resources: found, more: after !== undefined, calls };
  }

  function draw(next) {
    seen = next;
    Object.entries(FILTERS).forEach(([name, [label, holds]], position) => {
      filters[position].textContent = `${label} (${seen.resources.filter(holds).length})`;
      filters[position].setAttribute("aria-pressed", name === chosen.filter);
    });
    const found = seen.resources.filter((one) => FILTERS[chosen.filter][1](one) && matches(one)).sort(byGravity);
    const loaded = `${seen.more ? "the first " : ""}${seen.resources.length}`;
    const text = `${found.length} of ${loaded} resources`;
    if (count.textContent !== text) count.textContent = text;
    const listed = found.slice(0, chosen.rows);
    if (JSON.stringify(listed) !== last) {
      last = JSON.stringify(listed);
      redraw(rows, listed.map(row));
    }
    redraw(
      more,
      found.length > chosen.rows &&
        h("button", { type: "button", "data-key": "rows", onclick: () => choose({ rows: chosen.rows + ROWS }) },
          `Show ${Math.min(ROWS, found.length - chosen.rows)} more`),
      seen.more &&
        h("button", { type: "button", "data-key": "pages", onclick: () => ((chosen.pages += 1), look()) },
          `Load ${PAGE} more (one more call with each look)`),
      seen.more && chosen.text && h("a", { href: link(search.value.trim()) }, `Open the resource ${search.value.trim()}`),
    );
  }

  return { load, draw, seconds: 10 };
}

function matches(one) {
  const words = [one.resource_id, one.holder, one.holder_host];
  return words.some((word) => word?.toLowerCase().includes(chosen.text));
}

function byGravity(one, other) {
  return gravity(other) - gravity(one) || (one.resource_id < other.resource_id ? -1 : 1);
}

function gravity(one) {
  return one.holder === null ? 3 : one.undelivered ? 2 : one.frozen ? 1 : 0;
}

export function link(resource) {
  return `#/resource/${encodeURIComponent(resource)}`;
}

function headings(...names) {
  return h("tr", { role: "row" }, names.map((name) => h("th", { role: "columnheader", scope: "col" }, name)));
}

function row(one) {
  const host = one.holder_host;
  return h(
    "tr",
    { role: "row" },
    h("th", { role: "rowheader", scope: "row" },
      h("a", { href: link(one.resource_id), "data-key": `resource ${one.resource_id}` }, one.resource_id)),
    h("td", { role: "cell" },
      one.holder === null ? h("strong", { class: "bad" }, "none") : [host, host && " ", h("code", null, one.holder)]),
    h("td", { role: "cell" }, one.since === null ? "–" : [ago(one.since), `, ${one.reason}`]),
    h("td", { role: "cell" },
      one.undelivered > 0 && h("span", { class: "badge bad" }, `${one.undelivered} undelivered`),
      one.frozen && h("span", { class: "badge warn" }, "frozen"),
      ` ${one.endpoints === 1 ? "1 endpoint" : `${one.endpoints} endpoints`}`),
  );
}
