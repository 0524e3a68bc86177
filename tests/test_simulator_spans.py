"""How long modelled things take: quantiles of what was seen, or of a guess."""

import pytest

from orchestrator.simulator.spans import Around, Lognormal, Seen, Span, Uniform

DRAWS = [number / 1000 for number in range(1000)]


@pytest.mark.parametrize(
    "span",
    [
        Uniform(2.0, 4.0),
        Seen.of([4.0, 2.0, 9.0]),
        Around(Seen.of([4.0, 2.0, 9.0]), usual=4.0, middle=3.0, share=0.5),
        Lognormal(60.0, 0.5),
    ],
)
def test_a_larger_draw_is_never_shorter(span: Span) -> None:
    """Draws are quantiles, so that seeds can be compared."""
    spans = [span.at(drawn) for drawn in DRAWS]
    assert spans == sorted(spans)
    assert spans[0] > 0


def test_what_was_seen_comes_again() -> None:
    """Nothing is shorter or longer than what was seen, and the middle is the middle."""
    seen = Seen.of([30.0, 10.0, 20.0])
    assert seen.at(0.0) == 10.0
    assert seen.at(0.5) == 20.0
    assert seen.at(0.75) == 25.0
    assert seen.at(1.0) == 30.0
    assert Seen.of([7.0]).at(0.3) == 7.0


def test_a_guess_has_the_mean_it_was_given() -> None:
    """Lognormal spans are on average as long as expected, with a tail that ends."""
    guess = Lognormal(300.0, 0.5, most=2000.0)
    spans = [guess.at(drawn + 0.0005) for drawn in DRAWS]
    assert sum(spans) / len(spans) == pytest.approx(300.0, rel=0.01)
    assert 500 < guess.at(0.95) < 700
    assert max(spans) < 2000.0
    assert Lognormal(300.0, 0.5, most=400.0).at(0.99) == 400.0


def test_around_its_own_middle_it_spreads_less() -> None:
    """In the shape of what was seen, by ratio; never shorter or longer than any of it."""
    seen = Seen.of([100.0, 200.0, 400.0])
    around = Around(seen, usual=200.0, middle=250.0, share=0.5)
    assert [around.at(share) for share in (0.0, 0.5, 1.0)] == pytest.approx(
        [250.0 / 2**0.5, 250.0, 250.0 * 2**0.5]
    )
    assert Around(seen, usual=200.0, middle=390.0, share=1.0).at(0.9) == 400.0
    assert Around(seen, usual=200.0, middle=110.0, share=1.0).at(0.1) == 100.0
    whole = Around(seen, usual=200.0, middle=200.0, share=1.0)
    assert [whole.at(n / 8) for n in range(9)] == pytest.approx([seen.at(n / 8) for n in range(9)])
    assert Around(Seen.of([0.0]), usual=1e-3, middle=1e-3, share=1.0).at(0.5) == 0.0
