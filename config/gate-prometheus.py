#!/usr/bin/env python3
"""A gate: may restarts go on, as far as Prometheus and Alertmanager can tell?

    gate-prometheus.py --alertmanager http://alertmanager:9093 --label severity=critical
    gate-prometheus.py --prometheus http://prometheus:9090 --query 'max(p99_seconds)' --below 0.5

Exit code 0 means go. Anything else means no, and the last line printed says why: an alert that
fires, a value that is too high, no data at all, or an address that does not answer. A token, where
one is needed, is read from the environment variable that --token-env names.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

PATIENCE = 10.0
"""Seconds for one question; less than the orchestrator's own --gate-timeout."""


def main() -> int:
    """Ask what was asked for; return 0 for go."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--alertmanager", metavar="URL", help="no alert may fire there")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE",
                        help="only alerts with this label count; several may be given")  # fmt: skip
    parser.add_argument("--prometheus", metavar="URL", help="where --query is asked")
    parser.add_argument("--query", metavar="PROMQL", help="every value of it has to be --below")
    parser.add_argument("--below", type=float, metavar="NUMBER", help="what they must be below")
    parser.add_argument("--token-env", metavar="VARIABLE", help="where a bearer token is")
    asked = parser.parse_args()
    if not (asked.alertmanager or asked.prometheus):
        parser.error("give --alertmanager, or --prometheus with --query and --below")
    if asked.prometheus and (asked.query is None or asked.below is None):
        parser.error("--prometheus needs --query and --below")
    token = os.environ.get(asked.token_env, "") if asked.token_env else ""
    try:
        reasons = [*_alerts(asked.alertmanager, asked.label, token),
                   *_values(asked.prometheus, asked.query, asked.below, token)]  # fmt: skip
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        reasons = [f"cannot be asked: {error}"]
    if reasons:
        sys.stdout.write(f"{'; '.join(reasons)}\n")
    return 1 if reasons else 0


def _alerts(url: str | None, labels: Sequence[str], token: str) -> Iterator[str]:
    """Yield every alert that fires and is not silenced."""
    if url is None:
        return
    query = [("active", "true"), ("silenced", "false"), ("inhibited", "false")]
    query += [
        ("filter", f'{name}="{value}"') for name, _, value in (one.partition("=") for one in labels)
    ]
    for alert in _get(f"{url.rstrip('/')}/api/v2/alerts", query, token):
        yield f"alert {alert['labels'].get('alertname', 'without a name')} fires"


def _values(url: str | None, query: str, below: float, token: str) -> Iterator[str]:
    """Yield every value that is not below the bound; no value at all is no good sign either."""
    if url is None:
        return
    answer = _get(f"{url.rstrip('/')}/api/v1/query", [("query", query)], token)
    found = answer["data"]["result"]
    samples = (
        [found] if answer["data"]["resultType"] == "scalar" else [one["value"] for one in found]
    )
    if not samples:
        yield f"{query} has no value"
    # Spelled so that NaN, which is below nothing, is refused too.
    yield from (
        f"{query} is {value}, not below {below}" for _, value in samples if not float(value) < below
    )


def _get(url: str, query: Sequence[tuple[str, str]], token: str) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not an http address")
    headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token else {}
    request = Request(f"{url}?{urlencode(query)}", headers=dict(headers))  # noqa: S310 - checked above
    with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
