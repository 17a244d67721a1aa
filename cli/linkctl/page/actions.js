// The actions of an operator. Each shows first what would follow, where the API can say it, and asks.

import { call } from "./api.js";
import { focusOn, h } from "./dom.js";

const dialog = document.getElementById("dialog");

/** Hand over from the active endpoint. What is confirmed is what was shown, whichever candidate is the best by then. */
export function failover(resource, to, done) {
  const others = resource.candidates.filter((one) => one.id !== resource.holder && one.ready);
  const choice = h("select", { id: "to" },
    h("option", { value: "" }, "the best candidate"),
    others.map((one) => h("option", { value: one.id, selected: one.id === to }, one.host ?? one.id)));
  const path = `/endpoints/${resource.holder}/failover`;
  const controls = [h("p", null, h("label", { for: "to" }, "To "), choice)];
  ask(`Fail over ${resource.resource_id}`, "Fail over", controls, done, async () => {
    const body = choice.value ? { to: choice.value } : undefined;
    const { failover } = await call("POST", `${path}?dry_run=true`, body);
    const successor = name(resource, failover.holder);
    return {
      shown: outlook(resource, failover),
      confirm: `Fail over to ${successor}`,
      act: () => call("POST", path, { to: failover.holder }),
      said: `${resource.resource_id} was handed over to ${successor}.`,
    };
  });
}

export function drain(resource, candidate, drained, done) {
  const force = h("input", { id: "force", type: "checkbox" });
  const controls = drained
    ? [h("p", null, force, h("label", { for: "force" }, " also if no other endpoint is ready"))]
    : [];
  const host = candidate.host ?? candidate.id;
  const title = drained ? `Drain ${host}` : `End the drain of ${host}`;
  ask(title, title, controls, done, async () => {
    const path = `/endpoints/${candidate.id}`;
    const query = (drained && force.checked ? ["force=true"] : []).concat("dry_run=true");
    const { change } = await call("PATCH", `${path}?${query.join("&")}`, { drained });
    return {
      shown: outlook(resource, change),
      confirm: title,
      act: () => call("PATCH", path + (query.length > 1 ? "?force=true" : ""), { drained }),
      said: drained ? `${host} is drained.` : `${host} is no longer drained.`,
    };
  });
}

export function freeze(resource, frozen, done) {
  const id = resource.resource_id;
  const title = frozen ? `Freeze ${id}` : `Unfreeze ${id}`;
  ask(title, title, [], done, async () => ({
    shown: [
      frozen
        ? `${name(resource, resource.holder)} stays active, whatever is reported, until you unfreeze. An alarm stays on.`
        : "What was reported in the meantime counts again: the active endpoint may change at once.",
    ],
    confirm: title,
    act: () => call("PATCH", `/resources?resource_id=${encodeURIComponent(id)}`, { frozen }),
    said: frozen ? `${id} is frozen.` : `${id} is no longer frozen.`,
  }));
}

export function redeliver(candidate, done) {
  const host = candidate.host ?? candidate.id;
  const title = `Redeliver to ${host}`;
  ask(title, title, [], done, async () => ({
    shown: [`The receiver of ${host} gets its current status again, with the same sequence.`],
    confirm: title,
    act: () => call("POST", `/endpoints/${candidate.id}/redeliver`),
    said: `The current status is being sent to ${host} again.`,
  }));
}

function ask(title, verb, controls, done, plan) {
  const opener = document.activeElement.dataset.key;
  const shown = h("div", { role: "status" });
  const failure = h("p", { role: "alert", class: "bad" });
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const confirm = h("button", { type: "button", class: "primary", onclick: act }, verb);
  let turn = 0;
  let planned;

  async function look() {
    const mine = (turn += 1);
    confirm.disabled = true;
    shown.replaceChildren("Asking what would happen …");
    try {
      const found = await plan();
      if (mine !== turn) return;
      planned = found;
      shown.replaceChildren(...found.shown);
      confirm.textContent = found.confirm;
      confirm.disabled = false;
    } catch (error) {
      if (mine !== turn) return;
      shown.replaceChildren();
      failure.textContent = error.message;
    }
  }

  async function act() {
    cancel.focus();
    confirm.disabled = true;
    failure.textContent = "";
    try {
      await planned.act();
      dialog.close();
      done(planned.said);
    } catch (error) {
      const unsure = error.status === 0 || error.status >= 500;
      failure.textContent = `${error.message}${unsure ? " It may have happened: look before you repeat it." : ""}`;
      look();
    }
  }

  for (const control of controls) control.addEventListener("change", () => ((failure.textContent = ""), look()));
  dialog.replaceChildren(
    h("h2", { id: "dialog-title" }, title),
    ...controls,
    shown,
    failure,
    h("p", { class: "actions" }, cancel, confirm),
  );
  dialog.onclose = () => {
    turn += 1;
    focusOn(opener);
  };
  dialog.showModal();
  cancel.focus();
  look();
}

function name(resource, id) {
  return id === null ? "none" : resource.candidates.find((one) => one.id === id)?.host ?? id;
}

function outlook(resource, found) {
  return [
    h("p", null, "Active would be ", h("strong", found.holder === null ? { class: "bad" } : null, name(resource, found.holder)),
      `, epoch ${found.epoch}.`),
    found.webhooks.length === 0
      ? h("p", null, "No webhook would be sent.")
      : h("p", null, "These webhooks would be sent, in this order:"),
    h("ol", null, found.webhooks.map((one) => h("li", null, `${name(resource, one.id)}: ${one.status} (${one.reason})`))),
  ];
}
