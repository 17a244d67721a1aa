// One resource: its endpoints, what is undelivered, and who was active when.

import { Failed, call } from "./api.js";
import { drain, failover, freeze, redeliver } from "./actions.js";
import { ago, clock, h, redraw, span } from "./dom.js";
import { drawn, handovers, periods } from "./timeline.js";

const TRANSITIONS = 100;
const RANGES = [
  ["15 minutes", 900_000],
  ["1 hour", 3_600_000],
  ["1 day", 86_400_000],
  ["7 days", 604_800_000],
  ["all that is loaded", Infinity],
];

export function resource(main, id, about, done, look) {
  const known = new Map(); // transitions by version
  let seen, before, range, last;
  const top = h("div");
  const endpoints = h("div", { class: "endpoints" });
  const choice = h("select", { id: "range", onchange: () => ((range = Number(choice.value)), timeline()) });
  const picture = h("div", { class: "timeline" });
  const told = h("div");
  const resized = new ResizeObserver(() => seen && timeline());
  const query = `resource_id=${encodeURIComponent(id)}`;

  async function load(signal) {
    const [answer, audit] = await Promise.all([
      call("GET", `/resources?${query}`, null, signal),
      call("GET", `/transitions?${query}&limit=${TRANSITIONS}`, null, signal),
    ]);
    // What a probe or a signal found is shown by the endpoint only.
    const watched = answer.resource.candidates.filter((one) => one.observers.some((name) => name !== "host"));
    const watches = await Promise.all(watched.map((one) => watch(one.id, signal)));
    return { resource: answer.resource, audit, watches, calls: 2 + watched.length };
  }

  function draw(next) {
    if (!seen) {
      main.replaceChildren(
        top,
        h("h2", null, "Endpoints"),
        endpoints,
        h("h2", null, "Who was active"),
        h("p", null, h("label", { for: "range" }, "At most the last "), choice),
        picture,
        told,
      );
      resized.observe(picture);
      before = next.audit.next;
    }
    seen = next;
    for (const one of next.audit.transitions) known.set(one.version, one);
    const text = JSON.stringify([seen, before]);
    if (text !== last) {
      last = text;
      const names = new Map(seen.resource.candidates.map((one) => [one.id, one.host]));
      redraw(top, heading(seen.resource, about, done));
      redraw(endpoints, cards(seen, about, done));
      redraw(told, history(names));
    }
    timeline();
  }

  function all() {
    return [...known.values()].sort((one, other) => one.version - other.version);
  }

  function timeline() {
    const found = periods(all());
    const oldest = found.length ? Date.now() - found[0].from : 0;
    if (range === undefined) {
      const wanted = handovers(found).slice(-2)[0]?.at ?? 0;
      range = RANGES.find(([, ms]) => Date.now() - ms <= wanted || ms >= oldest)[1];
      choice.replaceChildren(...RANGES.map(([name, ms]) => h("option", { value: ms, selected: ms === range }, name)));
    }
    const names = new Map(seen.resource.candidates.map((one) => [one.id, one.host]));
    const from = Date.now() - Math.min(range, Math.max(oldest, 1000));
    picture.replaceChildren(drawn(found, names, from, Date.now(), picture.clientWidth));
  }

  function history(names) {
    const rows = handovers(periods(all())).reverse();
    const name = (endpoint) => names.get(endpoint) ?? endpoint;
    return [
      h("table", { role: "table", class: "handovers" },
        h("caption", null, "Handovers, newest first"),
        h("thead", { role: "rowgroup" },
          h("tr", { role: "row" },
            ["When", "From", "To", "Why", "No one active for", "By"].map((text) =>
              h("th", { role: "columnheader", scope: "col" }, text)))),
        h("tbody", { role: "rowgroup" },
          rows.map((one) =>
            h("tr", { role: "row" },
              [
                ["When", [clock(one.at), ", ", ago(one.at)]],
                ["From", name(one.from)],
                ["To", name(one.to)],
                ["Why", one.reason],
                ["No one active for", span(one.gap)],
                ["By", by(one.cause)],
              ].map(([label, value]) => h("td", { role: "cell", "data-label": label }, value)))))),
      rows.length === 0 && h("p", null, "There was no handover in what is loaded."),
      h("details", null,
        h("summary", { "data-key": "transitions" }, `All ${known.size} transitions that are loaded`),
        h("ol", null,
          all().reverse().map((one) =>
            h("li", null, clock(one.at), `, epoch ${one.epoch}, by ${by(one.cause)}: `,
              one.changes.map((change) =>
                `${name(change.endpoint_id)} ${change.from} → ${change.to} (${change.reason})`).join("; ") ||
                "no change of a status")))),
      before !== undefined &&
        h("button", { type: "button", "data-key": "older", onclick: older }, `Load ${TRANSITIONS} older transitions`),
    ];
  }

  async function older() {
    try {
      const audit = await call("GET", `/transitions?${query}&limit=${TRANSITIONS}&before=${before}`);
      for (const one of audit.transitions) known.set(one.version, one);
      before = audit.next;
      draw(seen);
    } catch (error) {
      done(error.message);
    }
  }

  return { load, draw, seconds: 5, leave: () => resized.disconnect() };
}

async function watch(id, signal) {
  try {
    return (await call("GET", `/endpoints/${id}`, null, signal)).endpoint;
  } catch (error) {
    if (error instanceof Failed && error.status === 404) return null; // deleted since
    throw error;
  }
}

function by(cause) {
  return `${cause.kind}${cause.by ? ` of ${cause.by.slice(cause.by.lastIndexOf(":") + 1)}` : ""}`;
}

function heading(one, about, done) {
  const holder = one.candidates.find((candidate) => candidate.id === one.holder);
  return [
    h("h1", null, one.resource_id),
    one.holder === null
      ? h("p", { class: "summary" }, h("strong", { class: "bad" }, "No endpoint is active"), `, epoch ${one.epoch}`)
      : h("p", { class: "summary" },
          h("strong", null, `${holder?.host ?? one.holder} is active`),
          one.since !== null && [" since ", clock(one.since), " (", ago(one.since), `, ${one.reason})`],
          `, epoch ${one.epoch}`),
    one.frozen &&
      h("p", { class: "notice" }, "Frozen: the active endpoint stays, whatever is reported. An alarm stays on."),
    one.undelivered.length > 0 &&
      h("p", { class: "notice" }, `${one.undelivered.length} undelivered: see the endpoints below.`),
    !about.read_only &&
      h("p", { class: "actions" },
        one.holder !== null && button("Fail over…", "", "failover", () => failover(one, null, done)),
        one.frozen
          ? button("Unfreeze…", "", "freeze", () => freeze(one, false, done))
          : button("Freeze…", "", "freeze", () => freeze(one, true, done))),
  ];
}

function button(text, of, key, onclick) {
  const label = of && `${text.replace("…", "")} ${of}…`;
  return h("button", { type: "button", "data-key": key, "aria-label": label || null, onclick }, text);
}

function cards({ resource: one, watches }, about, done) {
  const undelivered = new Map(one.undelivered.map((entry) => [entry.id, entry]));
  const found = new Map(watches.filter(Boolean).map((endpoint) => [endpoint.id, endpoint]));
  return [
    one.candidates.map((candidate) => {
      const entry = undelivered.get(candidate.id);
      return card(one, candidate, found.get(candidate.id), entry, about, done);
    }),
    one.undelivered.filter((entry) => entry.deleting).map((entry) =>
      h("section", { "aria-label": entry.id },
        h("h3", null, h("code", null, entry.id)),
        h("p", null, h("span", { class: "badge warn" }, "being deleted")),
        h("dl", null, term("Delivery", delivery(entry))))),
  ];
}

function card(one, candidate, watched, entry, about, done) {
  const { id } = candidate;
  const name = candidate.host ?? id;
  const active = id === one.holder;
  return h("section", { "aria-labelledby": `name-${id}`, class: active ? "active" : null },
    h("h3", { id: `name-${id}` }, name, " ",
      h("span", { class: `badge ${candidate.status.toLowerCase()}` }, candidate.status)),
    h("p", null, h("code", null, id)),
    h("dl", null,
      term("Ready", readiness(candidate)),
      term("Reported", words(candidate)),
      watched?.probe && term("Probe", verdict(watched.probe)),
      watched?.signal && term("Signals", signals(watched.signal)),
      term("Lease", candidate.lease_seconds
        ? [`${candidate.lease_seconds} s`, candidate.lease_expires_at !== null && [", ends ", ago(candidate.lease_expires_at)]]
        : "none"),
      term("Priority", String(candidate.priority)),
      term("Delivery", entry ? delivery(entry) : "nothing is undelivered")),
    !about.read_only &&
      h("p", { class: "actions" },
        !active && one.holder !== null && candidate.ready &&
          button(`Fail over to ${name}…`, "", `to ${id}`, () => failover(one, id, done)),
        candidate.drained_at
          ? button("End the drain…", `of ${name}`, `drain ${id}`, () => drain(one, candidate, false, done))
          : button("Drain…", name, `drain ${id}`, () => drain(one, candidate, true, done)),
        button("Redeliver…", `to ${name}`, `redeliver ${id}`, () => redeliver(candidate, done))));
}

function term(name, ...value) {
  return h("div", null, h("dt", null, name), h("dd", null, ...value));
}

function readiness(candidate) {
  if (candidate.drained_at) return ["no, drained ", ago(candidate.drained_at)];
  if (candidate.waits_for.length) return `no, waits for the first report of ${candidate.waits_for.join(", ")}`;
  if (candidate.held_until) return [candidate.ready ? "yes, but on hold, ends " : "no; on hold, ends ", ago(candidate.held_until)];
  return candidate.ready ? "yes" : "no";
}

function words(candidate) {
  const many = candidate.observers.length > 1;
  return [
    h("ul", null,
      candidate.observers.map((observer) => {
        const word = candidate.words[observer];
        return h("li", null, `${observer}: `, word ? [`${word.status} `, ago(word.at)] : "nothing yet");
      })),
    many && `${candidate.ready_when} of them ${candidate.ready_when === "all" ? "have" : "has"} to say ACTIVATED`,
  ];
}

function verdict(probe) {
  const check = probe.failed_check;
  return [
    probe.up === null ? "has not looked yet" : [probe.up ? "up" : h("strong", { class: "bad" }, "down"), ` since ${clock(probe.since)}`],
    probe.reason && `: ${check ? `${check.type} ${check.host}:${check.port}${check.path ?? ""}` : "a check"} ${probe.reason}`,
    probe.held_until && ["; held down, ends ", ago(probe.held_until)],
    "; next look ", ago(probe.next_look_at),
  ];
}

function signals({ said }) {
  return h("ul", null,
    said.map((one) =>
      h("li", null, `${one.signal}: `,
        one.status === null ? "nothing yet" : [`${one.status} since ${clock(one.since)}, ${one.reason}`],
        one.warned_until && ["; the warning ends ", ago(one.warned_until)])));
}

function delivery(entry) {
  return [
    h("strong", { class: "bad" }, `${entry.status ?? "a status"} is undelivered`),
    entry.announced_at && [", announced ", ago(entry.announced_at)],
    entry.failure && [`: ${entry.failure} (attempt ${entry.attempt}), next attempt due `, ago(entry.next_attempt_at), `. ${entry.next_step}`],
  ];
}
