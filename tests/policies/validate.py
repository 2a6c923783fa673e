"""Run by the pack's own Python: judges resources as the SDK does. JSON on stdin and stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "policies"))

from pulumi_policy import ResourceValidationArgs, StackValidationArgs, proxy

import analyzer
from rules import all_rules


def received(props):  # type: ignore[no-untyped-def]
    """Properties as they come from the engine."""
    return proxy.unknown_checking_proxy(analyzer.policy.deserialize_properties(props))


def judged(policy, case):  # type: ignore[no-untyped-def]
    said = []

    def report(message, urn=None):  # type: ignore[no-untyped-def]
        said.append(message)

    each = [
        ResourceValidationArgs(
            given["type"], received(given["props"]), f"urn::{number}", "it", None, None,
            case["settings"],
        )
        for number, given in enumerate(case["resources"])
    ]  # fmt: skip
    unknown = ""
    try:
        if isinstance(policy, analyzer.StackValidationPolicy):
            policy.validate(StackValidationArgs(each, case["settings"]), report)
        else:
            for args in each:
                policy.validate(args, report)
    except proxy.UnknownValueError as error:
        unknown = error.message
    return {"said": said, "unknown": unknown}


policies = {policy.name: policy for policy in analyzer.policies(all_rules())}
cases = json.load(sys.stdin)
json.dump(
    {
        "policies": {
            name: [policy.description, policy.enforcement_level.value]
            for name, policy in policies.items()
        },
        "verdicts": [judged(policies[case["rule"]], case) for case in cases],
    },
    sys.stdout,
)
