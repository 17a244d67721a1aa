// Who was active when: computed from the transitions, and drawn.

import { clock, s, span } from "./dom.js";

const LANE = 38;
const BAR = 16;
const TOP = 4;
const AXIS = 22;
const STEPS = [5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

/** The times with one holder and one epoch, oldest first; `to` is null in the last one. Holder null: none. */
export function periods(transitions) {
  const found = [];
  for (const one of transitions) {
    const last = found.at(-1);
    if (last && last.holder === one.holder && last.epoch === one.epoch) continue;
    if (last) Object.assign(last, { to: one.at, end: one });
    found.push({ holder: one.holder, epoch: one.epoch, from: one.at, to: null, begin: one, end: null });
  }
  return found;
}

/** Each time that one endpoint followed another one or itself, oldest first. `gap`: ms without an active endpoint. */
export function handovers(periods) {
  const found = [];
  let before = null;
  for (const one of periods) {
    if (one.holder === null) continue;
    if (before) {
      const lost = before.end.changes.find((change) => change.endpoint_id === before.holder);
      const won = one.begin.changes.find((change) => change.endpoint_id === one.holder);
      const reason = (lost ?? won)?.reason ?? one.begin.cause.kind;
      found.push({ at: one.from, from: before.holder, to: one.holder, reason, gap: one.from - before.to, cause: one.begin.cause });
    }
    before = one;
  }
  return found;
}

/** An SVG of the periods between two times. The table of handovers has the same in words. */
export function drawn(periods, names, from, until, width) {
  const shown = periods.filter((one) => (one.to ?? until) > from);
  const lanes = [...new Set(shown.map((one) => one.holder))].sort((one, other) => (one === null) - (other === null));
  const height = TOP + lanes.length * LANE + AXIS;
  const x = (at) => Math.max(0, ((at - from) / (until - from)) * width);
  const label = `Who was active from ${clock(from)} until now; the table of handovers has the same in words`;
  return s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ticks(from, until, width).map(({ at, text }) => [
      s("line", { class: "tick", x1: x(at), x2: x(at), y1: 0, y2: height - AXIS }),
      s("text", { class: "axis", x: x(at), y: height - 6, "text-anchor": x(at) < 40 ? "start" : x(at) > width - 40 ? "end" : "middle" }, text),
    ]),
    lanes.map((lane, row) => {
      const y = TOP + row * LANE;
      return [
        s("text", { class: "lane", x: 0, y: y + 12 }, lane === null ? "no active endpoint" : names.get(lane) ?? lane),
        s("rect", { class: "track", x: 0, y: y + 17, width, height: BAR }),
        shown.filter((one) => one.holder === lane).map((one) => {
          const begin = x(one.from);
          const end = x(one.to ?? until);
          return s("rect", { class: lane === null ? "none" : "held", x: begin, y: y + 17, width: Math.max(2, end - begin), height: BAR },
            s("title", null, `${clock(one.from)}, for ${span((one.to ?? until) - one.from)}, epoch ${one.epoch}`));
        }),
      ];
    }));
}

function ticks(from, until, width) {
  const step = (STEPS.find((one) => ((until - from) / 1000 / one) * 90 <= width) ?? STEPS.at(-1)) * 1000;
  const offset = new Date(from).getTimezoneOffset() * 60_000;
  const found = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at < until; at += step) {
    const date = new Date(at);
    const style = step < 60_000 ? { timeStyle: "medium" } : step < 86_400_000 ? { timeStyle: "short" } : { dateStyle: "medium" };
    found.push({ at, text: date.toLocaleString(undefined, style) });
  }
  return found;
}
