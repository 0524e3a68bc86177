"""Which wave is open, who of it is left, and what turns one into the next.

Rules:

- Waves open one after the other. Where the health of clusters decides who goes, nobody is let in
  before every project that matters was looked at.
- A wave is over when all have ended but those who do not start while this runner runs, because
  their credential was refused. It soaks then, if it touched anything, and is finished.
- Where words are asked for, the run pauses before each wave but the first, and says how the last
  one went.
"""

from collections import Counter
from collections.abc import Collection, Mapping

from orchestrator.model import Outcome, RunPaused, WaveFinished, WaveSoaking
from orchestrator.plan import CANARY, Plan, Wave

_TOUCHED = frozenset({Outcome.RESTARTED, Outcome.ACCEPTED})
_NOBODY: frozenset[int] = frozenset()


class Waves:
    """How far a run is in the waves of its plan."""

    def __init__(self, plan: Plan) -> None:
        self._waves = plan.waves
        self._asks_for_words = plan.policy.confirm_waves
        self._of = [0] * len(plan.targets)
        for number, wave in enumerate(plan.waves):
            for position in wave.targets:
                self._of[position] = number
        self._left = [len(wave.targets) for wave in plan.waves]
        self._left_out: list[set[int]] = [set() for _ in plan.waves]
        self.late: set[int] = set()
        """Who waits and would not be done by the deadline."""
        self.number = 0
        """The wave that is open, soaking or next."""
        self.is_open = False
        """Whether it is open, or soaking."""
        self.soak_ends_at: float | None = None
        self.unseen: set[str] = set()
        """Projects that must be looked at before the open wave lets anybody in."""

    # ------------------------------------------------------------------------------- questions

    @property
    def are_over(self) -> bool:
        """Whether all waves are finished."""
        return self.number == len(self._waves)

    @property
    def current(self) -> Wave:
        """The wave that is open, soaking or next; there must be one."""
        return self._waves[self.number]

    @property
    def is_at_barrier(self) -> bool:
        """Whether a wave is to be opened next."""
        return not self.is_open and not self.are_over

    @property
    def admits(self) -> bool:
        """Whether a wave is open and does not soak yet."""
        return self.is_open and self.soak_ends_at is None

    @property
    def left(self) -> int:
        """How many of the current wave have not ended."""
        return 0 if self.are_over else self._left[self.number]

    @property
    def left_out(self) -> Collection[int]:
        """Who of the current wave does not start while this runner runs."""
        return _NOBODY if self.are_over else self._left_out[self.number]

    @property
    def left_in_all(self) -> int:
        """How many have not ended in this wave and those to come."""
        return sum(self._left[self.number :])

    @property
    def is_anybody_left_out(self) -> bool:
        """Whether anybody of any wave does not start while this runner runs."""
        return any(self._left_out)

    @property
    def is_anybody_else_left(self) -> bool:
        """Whether anybody waits, is under way or soaks, but for those who are left out.

        Who is under way may yet have to wait again; a stop would take back what was just granted.
        """
        left_out = sum(len(out) for out in self._left_out[self.number :])
        return self.left_in_all > left_out or self.soak_ends_at is not None

    def are_all_late(self, under_way: int) -> bool:
        """Whether nobody of the current wave may start any more, as it is too late for them."""
        never = len(self.late.union(self.left_out))
        return bool(self.late) and never >= self.left - under_way

    def is_in_canary(self, position: int) -> bool:
        """Whether a failure of this target stops the run in any case."""
        return self._waves[self._of[position]].name == CANARY

    # ---------------------------------------------------------------------------------- targets

    def leave(self, position: int) -> None:
        """Take note that a target has ended."""
        number = self._of[position]
        self._left[number] -= 1
        self._left_out[number].discard(position)
        self.late.discard(position)

    def come_back(self, position: int) -> None:
        """Take note that a target which had ended is left after all."""
        self._left[self._of[position]] += 1

    def leave_out(self, position: int) -> None:
        """Take note that a target does not start while this runner runs."""
        self._left_out[self._of[position]].add(position)

    def take_back(self) -> None:
        """Leave nobody out any more."""
        for left_out in self._left_out:
            left_out.clear()

    def saw(self, project_ids: Collection[str]) -> bool:
        """Take note of looks at projects; return whether these were the last to be waited for."""
        if not self.unseen:
            return False
        self.unseen.difference_update(project_ids)
        return not self.unseen and self.is_open

    # ------------------------------------------------------------------------------------ turns

    def open(self) -> None:
        """Begin the current wave."""
        self.is_open = True

    def soak(self, at: float) -> None:
        """Begin its soak."""
        self.soak_ends_at = at + self.current.soak

    def finish(self, number: int) -> None:
        """End it."""
        self.soak_ends_at = None
        self.is_open = False
        self.number = number + 1

    def begin_again(self) -> None:
        """Stand before the first wave that anybody is left in, as after a stop."""
        self.soak_ends_at = None
        self.is_open = False
        self.late.clear()
        self.number = next((n for n, left in enumerate(self._left) if left), len(self._left))

    def turn(
        self, now: float, outcomes: Mapping[int, Outcome], soaked_at: float
    ) -> WaveSoaking | WaveFinished | None:
        """Return what becomes of the open wave now, if anything does.

        Args:
            now: this moment.
            outcomes: how its targets ended, by position.
            soaked_at: from when on its soak is over, if it soaks.
        """
        if self._left[self.number] > len(self._left_out[self.number]):
            return None
        if self.soak_ends_at is None and self._has_to_soak(outcomes):
            return WaveSoaking(at=now, wave=self.number)
        is_over = self.soak_ends_at is None or now >= soaked_at
        return WaveFinished(at=now, wave=self.number) if is_over else None

    def _has_to_soak(self, outcomes: Mapping[int, Outcome]) -> bool:
        wave = self.current
        return wave.soak > 0 and any(outcomes.get(p) in _TOUCHED for p in wave.targets)

    def needs_word(self, asked_before: int | None) -> bool:
        """Whether the next wave waits for a word; `asked_before` is where one was asked last."""
        is_asked = asked_before == self.number
        return self._asks_for_words and self.number > 0 and not is_asked and self.left > 0

    def pause(self, now: float, outcomes: Mapping[int, Outcome]) -> RunPaused:
        """Return the pause before the next wave, with how the last one went."""
        before, wave = self._waves[self.number - 1], self.current
        ended = Counter(outcomes[p].value for p in before.targets if p in outcomes)
        said = ", ".join(f"{count} {outcome}" for outcome, count in ended.items())
        name = before.name if before.name.startswith("wave ") else f"wave {before.name}"
        reason = (
            f"{name} is done: {said}; wave {self.number + 1} of {len(self._waves)} "
            f"({wave.name}, {self.left}) waits for a word"
        )
        return RunPaused(at=now, by="orchestrator", reason=reason, wave=self.number)
