"""Judgement before a restart: who is let be; what looks mean after it is tested with campaigns."""

from typing import Any

import pytest

from orchestrator.judgement import Judge
from orchestrator.model import ClusterState, Outcome, Target
from orchestrator.plan import Policy, Unhealthy, make_plan

IDLE = ClusterState(status="200")
BUSY = ClusterState(status="200", actions=("SNAPSHOT",))
DOWN = ClusterState(status="303")


def of(**policy: Any) -> Judge:
    return Judge(make_plan([Target(project_id="p", cluster_id="c")], Policy(**policy)))


@pytest.mark.parametrize("unhealthy", Unhealthy)
def test_who_is_ready_may_be_restarted_and_who_is_busy_may_not(unhealthy: Unhealthy) -> None:
    """Whatever is asked for with clusters that are not ready."""
    judge = of(unhealthy=unhealthy)
    assert judge.judge_baseline(0, IDLE, lost=0, now=1.0) is None
    ended = judge.judge_baseline(0, BUSY, lost=0, now=1.0)
    assert ended is not None
    assert (ended.at, ended.outcome, ended.reason) == (1.0, Outcome.SKIPPED, "busy")


def test_who_is_not_ready_is_skipped_unless_that_is_asked_for() -> None:
    """A skip is no fault of the run if the operator said so in so many words."""
    for asked in (False, True):
        ended = of(unhealthy_asked=asked).judge_baseline(0, DOWN, lost=0, now=1.0)
        assert ended is not None
        assert (ended.outcome, ended.reason, ended.asked) == (Outcome.SKIPPED, "unhealthy", asked)
    for unhealthy in (Unhealthy.RESTART, Unhealthy.FIRST):
        assert of(unhealthy=unhealthy).judge_baseline(0, DOWN, lost=0, now=1.0) is None


def test_who_is_busy_after_a_lost_call_is_unknown() -> None:
    """The call may be why; a cluster that is idle was proved not to have been reached."""
    ended = of().judge_baseline(0, BUSY, lost=1, now=1.0)
    assert ended is not None
    assert ended.outcome is Outcome.UNKNOWN
    assert "asked before without an answer, and busy now" in (ended.reason or "")
    assert of().judge_baseline(0, IDLE, lost=1, now=1.0) is None
