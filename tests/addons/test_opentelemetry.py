"""opentelemetry: where traces and logs go."""

from __future__ import annotations

from typing import Any

from support.addons import Case, before, installed

from groundplane.spec.addons import Need

CASE = Case("opentelemetry")


def config(case: Case) -> dict[str, Any]:
    (found,) = [
        r.inputs["spec"]["config"]
        for r in installed(case).values()
        if r.inputs.get("kind") == "OpenTelemetryCollector"
    ]
    return dict(found)


def test_traces_go_to_the_store_of_traces() -> None:
    given = config(CASE)
    assert given["exporters"]["otlp/traces"]["endpoint"] == "traces.example.svc:4317"
    assert given["service"]["pipelines"].keys() == {"traces"}


def test_logs_go_to_the_store_of_logs_where_there_is_one() -> None:
    given = config(Case("opentelemetry", has=(Need.LOGS,)))
    assert given["exporters"]["otlphttp/logs"]["endpoint"] == "http://logs.example.svc:3100/otlp"
    assert given["service"]["pipelines"].keys() == {"traces", "logs"}


def test_what_a_pipeline_names_is_defined() -> None:
    given = config(Case("opentelemetry", has=(Need.LOGS,)))
    for pipeline in given["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= given[kind].keys()


def test_the_webhook_answers_before_a_collector_is_made() -> None:
    found = installed(CASE)
    (chart,) = [name for name, r in found.items() if "chart" in r.inputs]
    (made,) = [
        name for name, r in found.items() if r.inputs.get("kind") == "OpenTelemetryCollector"
    ]
    assert chart in before(found, made)
