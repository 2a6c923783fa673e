"""From rules to policies of Pulumi's SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyResource,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
    deserialize,
    policy,
    proxy,
    secret,
)

from rules.rule import UNKNOWN, Resource, Rule, Secret, Settings, Verdict, View, judge

# What `pulumi policy analyze` puts in place of secrets that it cannot open.
REDACTED = "[secret]"


def _with_marks(props: dict[str, Any], _: bool = True) -> Any:
    return deserialize.deserialize_properties(props, proxy_secrets=True)


# The SDK hands secrets to policies as if they were none. With this they keep their marks, as they
# do for its remediations; else no rule could tell that a command's text is secret.
policy.deserialize_properties = _with_marks


def policies(rules: Sequence[Rule]) -> list[Policy]:
    """The rules as the SDK takes them."""
    return [_policy(rule) for rule in rules]


def _policy(rule: Rule) -> Policy:
    common: dict[str, Any] = {
        "name": rule.name,
        "description": rule.summary,
        "enforcement_level": EnforcementLevel(rule.level),
        "config_schema": PolicyConfigSchema({k: dict(v) for k, v in rule.settings.items()}),
        "remediation_steps": rule.remedy,
        "tags": [rule.area],
    }
    if rule.each is None:
        return StackValidationPolicy(validate=partial(_stack, rule), **common)
    return ResourceValidationPolicy(validate=partial(_resource, rule), **common)


def _resource(rule: Rule, args: ResourceValidationArgs, report: Callable[..., None]) -> None:
    _tell(judge(rule, [_seen(args)], _settings(args)), report)


def _stack(rule: Rule, args: StackValidationArgs, report: Callable[..., None]) -> None:
    _tell(judge(rule, [_seen(each) for each in args.resources], _settings(args)), report)


def _settings(args: ResourceValidationArgs | StackValidationArgs) -> Settings:
    return args.get_config() or {}


def _seen(found: ResourceValidationArgs | PolicyResource) -> Resource:
    return Resource(found.resource_type, found.name, found.urn, View(plain(found.props)))


def _tell(verdict: Verdict, report: Callable[..., None]) -> None:
    for urn, message in verdict.violations:
        report(message, urn)
    if verdict.unchecked:
        # The only way to say something that stops nothing, whatever the rule's level.
        error = proxy.UnknownValueError(proxy.UNKNOWN_STRING_VALUE, [])
        error.message = verdict.unchecked
        raise error


def plain(value: Any) -> Any:
    """A value without the SDK's wrappers: dicts, lists, scalars, and marks of our own."""
    if isinstance(value, secret.Secret):
        inner = plain(value.value)
        return inner if isinstance(inner, Secret) else Secret(inner)
    if isinstance(
        value,
        proxy._DictProxy | proxy._ListProxy | secret._DictSecretsProxy | secret._ListSecretsProxy,
    ):
        return plain(value["__target"])
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if value == REDACTED:
        return Secret(UNKNOWN)
    return UNKNOWN if proxy._is_unknown(value) else value
