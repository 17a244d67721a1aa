"""`make reference`: writes docs/settings.md and docs/metrics.md from template.yaml and from the code's metrics."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.cloud import ROOT, template

SETTINGS = ROOT / "docs/settings.md"
METRICS = ROOT / "docs/metrics.md"
CODE = ROOT / "layers/shared/link"
MEANINGS = {
    "EndpointsOnHold": "endpoints of a resource that are on hold, at each look at it",
    "FailedRecords": "a message, or a report of a `Host Report`, that failed and comes back",
    "HooksLate": "a lifecycle hook that was completed after five minutes, without a handover",
    "ProbeSlots": "a slot that is done; each minute also 0, or 1 if there is nothing to probe",
    "ProbeSlotsLate": "a slot that came more than 5 s after its end and was left out",
    "ProbesBlind": "a slot in which failures do not count, because no reference answered or most names have no address",
    "ProbesHeldBack": "endpoints whose probes fail and that stay up, because too many failed at once",
    "ProbesKept": "endpoints whose probes fail and that stay up, as the last ready ones of their resources",
    "ProbesLagging": "a slot in which failures do not count, because the prober itself was late",
    "ReceiversRefused": "an attempt with the result `refused`",
    "RejectedEvents": "a status event that can never be applied",
    "ReportsIgnored": "a report that is not later than the last one of its observer",
    "ResourcesFrozen": "a look at a frozen resource",
    "ResourcesWithoutHolder": "a look at a resource that has reports and no holder",
    "SignalLooks": "a look at all signals",
    "SignalsMissing": "signals of something that AWS does not know, at each look",
    "SignalsUnseen": "signals about which AWS could not be asked, at each look",
    "UndeliveredSeconds": "at each look: since when a status of the resource has been pending",
    "Webhooks": "an attempt to send a webhook",
}
"""What one value of each metric means."""

_SETTINGS = """\
# Settings and outputs

This page is for people who deploy the stack and look a parameter or an output up.

`make reference` writes it from `template.yaml`. Give parameters with `sam deploy --parameter-overrides
'RefreshInterval=1m RequireHttps=true'`, or in `samconfig.toml`. How to deploy: [deploy.md](deploy.md)."""

_METRICS = """\
# Metrics and alarms

This page is for operators who build a dashboard or an alarm of their own, or want to know when an alarm begins.

`make reference` writes it from the code and from `template.yaml`. The dashboard (output `DashboardName`) has the metric
of every alarm. What to do when an alarm begins: [operating.md](operating.md).

## Metrics of the code

The namespace is `LinkWebhook/<name of the stack>`. Every metric has the dimension `service` with the value
`link-webhook`; *also* are the others. Except `Webhooks`, no metric has a resource or a reason as its dimension, because
CloudWatch bills each combination: which resource it was is in the log ([log-lines.md](log-lines.md)).
"""


@dataclass(frozen=True)
class Metric:
    """A metric that the code emits."""

    name: str
    unit: str
    dimensions: tuple[str, ...]


def metrics() -> list[Metric]:
    """Return every metric of the code once, by name."""
    found = set()
    for path in CODE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(func=ast.Name(id="metric"), args=[ast.Constant(value=str(name)), *_], keywords=keywords):
                    given = {one.arg or "": one.value for one in keywords}
                    unit = given.pop("unit", None)
                    named = unit.attr if isinstance(unit, ast.Attribute) else "Count"
                    found.add(Metric(name, named, tuple(sorted(given))))
    return sorted(found, key=lambda one: one.name)


def settings_page(stack: dict[str, Any]) -> str:
    """Return docs/settings.md."""
    lines = [_SETTINGS]
    for label, names in _groups(stack):
        lines += ["", f"## {label}", "", "| parameter | default | allowed | |", "|---|---|---|---|"]
        lines += [_setting(name, stack["Parameters"][name]) for name in names]
    lines += ["", "## Outputs", "", "`linkctl` reads them by itself. Others read them with", "", "```sh"]
    lines += ["aws cloudformation describe-stacks --stack-name link-webhook --query 'Stacks[0].Outputs' --output table"]
    lines += ["```", "", "| output | value | |", "|---|---|---|"]
    for name, output in stack["Outputs"].items():
        lines.append(f"| `{name}` | {_value(output['Value'], stack)} | {_escaped(output.get('Description', ''))} |")
    return "\n".join(lines) + "\n"


def metrics_page(stack: dict[str, Any]) -> str:
    """Return docs/metrics.md."""
    alarms = {name: one["Properties"] for name, one in stack["Resources"].items() if one["Type"].endswith("::Alarm")}
    lines = [
        _METRICS,
        "| metric | unit | also | one value is | alarms |",
        "|---|---|---|---|---|",
    ]
    for one in metrics():
        used = [_linked(name) for name, alarm in alarms.items() if alarm["MetricName"] == one.name]
        also = ", ".join(f"`{name}`" for name in one.dimensions)
        lines.append(f"| `{one.name}` | {one.unit} | {also} | {MEANINGS[one.name]} | {' '.join(used)} |")
    lines += [
        "",
        "Kinds and reasons of `Webhooks`: [sending.md](sending.md#how-an-attempt-ends).",
        "",
        "## Alarms",
        "",
        "CloudWatch shows an alarm under a name like `link-webhook-UndeliveredAlarm-1A2B3C`. Each notifies",
        "`AlarmTopicArn` when it begins and when it ends.",
        "",
        "| alarm | metric | begins when | missing data |",
        "|---|---|---|---|",
    ]
    for name, alarm in alarms.items():
        metric = f"`{_text(alarm['Namespace'])}` `{alarm['MetricName']}`"
        lines.append(f"| {_linked(name)} | {metric} | {_begins(alarm)} | {MISSING[alarm['TreatMissingData']]} |")
    return "\n".join(lines) + "\n"


MISSING = {"notBreaching": "is no fault", "breaching": "is the fault"}
SIGNS = {"GreaterThanThreshold": ">", "LessThanThreshold": "<"}


def _groups(stack: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for group in stack["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        yield group["Label"]["default"], group["Parameters"]


def _setting(name: str, parameter: dict[str, Any]) -> str:
    default = str(parameter["Default"])
    if "AllowedValues" in parameter:
        allowed = ", ".join(f"`{value}`" for value in parameter["AllowedValues"])
    elif "MinValue" in parameter:
        allowed = f"{parameter['MinValue']} to {parameter['MaxValue']}"
    else:
        allowed = parameter.get("ConstraintDescription", "a list, separated by commas")
    shown = f"`{default}`" if default else "empty"
    return f"| `{name}` | {shown} | {_escaped(allowed)} | {_escaped(parameter.get('Description', ''))} |"


def _value(value: Any, stack: dict[str, Any]) -> str:
    """Say of which resource what attribute an output is."""
    match value:
        case {"Ref": name} if name in stack["Resources"]:
            kind = stack["Resources"][name]["Type"].split("::", 1)[1].replace("::", " ")
            return f"`{name}` ({kind})"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"`{name}`, its {attribute}"
        case {"Fn::If": [_, made, given]}:
            return f"{_value(made, stack)}, or {_value(given, stack)}"
        case {"Ref": name}:
            return f"`{name}`"
        case {"Fn::Sub": [text, _]} | {"Fn::Sub": text}:
            return f"`{text}`"
    raise ValueError(f"an output of a form that this page does not know: {value}")


def _text(value: Any) -> str:
    return value["Fn::Sub"].replace("${AWS::StackName}", "…") if isinstance(value, dict) else str(value)


def _begins(alarm: dict[str, Any]) -> str:
    periods = alarm["EvaluationPeriods"]
    sign = SIGNS[alarm["ComparisonOperator"]]
    times = "" if periods == 1 else f", {periods} times in a row"
    return f"{alarm['Statistic'].lower()} of {alarm['Period']} s {sign} {alarm['Threshold']}{times}"


def _linked(alarm: str) -> str:
    return f"[`{alarm}`](operating.md#{alarm.lower()})"


def _escaped(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


PAGES = {SETTINGS: settings_page, METRICS: metrics_page}


def main() -> None:
    for path, page in PAGES.items():
        Path(path).write_text(page(template()))


if __name__ == "__main__":
    main()
