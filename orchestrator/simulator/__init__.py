"""A pretend service: `service` behaves, `server` and `memory` let others talk to it.

Those two are imported by their own names: the rest does without an HTTP library.
"""

from orchestrator.simulator.invent import invent_targets
from orchestrator.simulator.scenario import Scenario, load_scenario, parse_scenario
from orchestrator.simulator.service import Service
from orchestrator.simulator.trace import Judgement, Record, TraceFile, judge, read_trace

__all__ = [
    "Judgement",
    "Record",
    "Scenario",
    "Service",
    "TraceFile",
    "invent_targets",
    "judge",
    "load_scenario",
    "parse_scenario",
    "read_trace",
]
