"""The statistics and pictures of route reports: what looks unmeasured, intervals, controls, and the frontier."""

import math
import random

import pytest

from lunar_core.evaluate import intervals
from lunar_core.evaluate.decisions import Decision
from lunar_core.evaluate.frontier import Point, draw, draw_svg
from lunar_core.evaluate.intervals import (
    bootstrap_interval,
    expected_error_at_random,
    make_control,
    wilson_interval,
)
from lunar_core.evaluate.unmeasured import find_unmeasured

# What looks unmeasured


def decision(prompt, cluster, scores, error=None):
    return Decision(str(prompt), 0.0, "a", error, cluster, scores)


def test_topics_with_the_same_overall_errors_look_unmeasured():
    overall = {"a": 0.212, "b": 0.318}
    decisions = [
        decision(1, 7, overall),
        decision(2, 9, overall),
        decision(3, 9, overall),
        decision(4, 3, {"a": 1 / 3, "b": 2 / 3}),
        decision(5, 4, {"a": 1 / 3, "b": 2 / 3}),
        decision(6, 8, {"a": 0.2137, "b": 0.3181}),
    ]
    unmeasured = find_unmeasured(decisions)
    assert (unmeasured.prompts, unmeasured.clusters) == (3, (7, 9))


@pytest.mark.parametrize("error", [0.0, 0.5, 3 / 23, 0.12])
def test_shares_of_a_few_questions_look_measured_however_often_they_stand(error):
    scores = {"a": error, "b": 0.0}
    assert find_unmeasured([decision(n, n, scores) for n in range(5)]).prompts == 0


def test_errors_of_exactly_0_are_counted():
    assert find_unmeasured([decision(1, 1, None, 0.0), decision(2, 2, None, 0.1)]).zeros == 1


# Intervals and controls


def test_wilsons_interval_is_wilsons():
    # Agresti and Coull (1998), for 0 of 10; and symmetric in wins and losses.
    low, high = wilson_interval(0, 10)
    assert (low, high) == pytest.approx((0, 0.2775), abs=1e-4)
    swapped = wilson_interval(10, 10)
    assert swapped == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(0, 0) is None


def test_the_bootstrap_covers_the_mean_and_is_the_same_at_each_run():
    values = [1, 0, 0, -1, 1, 1, 0, 0, 1, 0] * 5
    low, high = bootstrap_interval(values)
    assert low < sum(values) / len(values) < high
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval([1]) is None


def test_wilsons_interval_covers_a_share_in_95_of_100_samples():
    """Exact, over all samples of 25: it is right on average over the shares, as it is known to be."""

    def coverage(share, trials=25):
        return sum(
            math.comb(trials, wins) * share**wins * (1 - share) ** (trials - wins)
            for wins in range(trials + 1)
            if wilson_interval(wins, trials)[0] <= share <= wilson_interval(wins, trials)[1]
        )

    shares = [number / 100 for number in range(5, 96)]
    assert sum(map(coverage, shares)) / len(shares) == pytest.approx(0.95, abs=0.01)
    assert min(map(coverage, shares)) > 0.9


@pytest.mark.parametrize(
    "chances",
    [
        pytest.param((0.05, 0.15, 0.6, 0.15, 0.05), id="no difference"),
        pytest.param((0.02, 0.08, 0.6, 0.2, 0.1), id="an advantage"),
        pytest.param(
            (0.0, 0.05, 0.95, 0.0, 0.0), id="rare losses, of which a sample may have none"
        ),
        pytest.param((0.25, 0.1, 0.3, 0.1, 0.25), id="wide apart"),
    ],
)
def test_the_bootstrap_covers_the_mean_of_known_chances(chances, monkeypatch):
    """200 samples of 20 prompts each, of which 95 % are to be covered: 90 % is 3.2 standard errors below."""
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    results = (-2, -1, 0, 1, 2)
    mean = sum(result * chance for result, chance in zip(results, chances, strict=True))
    chance = random.Random(7)  # noqa: S311  # samples, and the same at each run
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(chance.choices(results, chances, k=20), seed)
        covered += low <= mean <= high
    assert covered >= 180


def test_a_control_has_the_same_shares():
    choices = ["a"] * 7 + ["b"] * 3
    control = make_control(choices)
    assert sorted(control) == choices
    assert control != choices


def test_the_error_of_a_mix_at_random_is_the_mean_over_all_assignments():
    errors = [{"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.0}]
    assert expected_error_at_random({"a": 0.5, "b": 0.5}, errors) == 0.5
    assert expected_error_at_random({"c": 1.0}, errors) is None


# Pictures


def test_the_picture_puts_cost_across_and_error_up():
    points = [Point(1, 0.5, "a", "weight 0"), Point(2, 0.1, "*", "gpt-4o")]
    lines = draw(points, across="USD", up="error", width=20, height=4).splitlines()
    assert lines[1] == "  0.500 |a"
    assert lines[4] == "  0.100 |" + " " * 19 + "*"
    assert "<title>gpt-4o: 2.0000, 0.1000</title>" in draw_svg(points, across="USD", up="error")
    same = [*points, Point(1, 0.5, "b", "weight 5")]
    assert draw(same, across="USD", up="error").splitlines()[1] == "  0.500 |ab"
    picture = draw_svg(same, across="USD", up="error")
    assert ">a b</text>" in picture
    assert "<title>weight 5: 1.0000, 0.5000</title>" in picture
    assert draw(points[:1], across="USD", up="error") == ""
    hostile = [*points, Point(1.5, 0.2, "*", "<b>")]
    assert "<b>" not in draw_svg(hostile, across="<b>", up="<b>")
