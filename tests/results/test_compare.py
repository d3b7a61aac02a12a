"""Gates: a regression is found and explained, noise is not a regression, and unlike is not compared."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.results.budget import check_budget
from tinyhil.results.compare import compare
from tinyhil.results.gates import Rule, noise_floor, parse_rules
from tinyhil.results.record import Correctness, Estimate, Failure, PeakRam


def only(findings):
    assert len(findings) == 1, [f.message() for f in findings]
    return findings[0]


def slower(record, layer: int, factor: float):
    """The same record with one layer slower."""
    steps = list(record.layers)
    growth = round(steps[layer].instructions * (factor - 1))
    steps[layer] = replace(steps[layer], instructions=steps[layer].instructions + growth)
    return replace(record, layers=tuple(steps), instructions=record.instructions + growth)


def sampled(record, centre: int, spread: int, seed: int):
    """A hardware record with noisy samples around `centre`."""
    rng = random.Random(seed)
    samples = tuple(round(rng.gauss(centre, spread)) for _ in range(21))
    return replace(record, samples=samples, cycles=sorted(samples)[10])


class TestRules:
    def test_the_documented_example(self) -> None:
        assert parse_rules("cycles:2%,instructions:0, peak_ram:0 ,flash:+1KiB") == (
            Rule("cycles", relative=0.02),
            Rule("instructions"),
            Rule("peak_ram"),
            Rule("flash", absolute=1024),
        )

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("", "names no metric"),
            ("cycles", "has no limit"),
            ("cycles:", "has no limit"),
            ("speed:2%", "'speed'"),
            ("cycles:-2%", "not negative"),
            ("cycles:nan%", "not negative"),
            ("cycles:1e999", "not negative"),
            ("cycles:1KiB", r"\+1000"),
            ("flash:1 furlong", r"\+1KiB"),
            ("flash:0,flash:1", "twice"),
        ],
    )
    def test_a_wrong_rule_is_named(self, text, named) -> None:
        with pytest.raises(UsageError, match=named):
            parse_rules(text)

    @settings(max_examples=50)
    @given(st.floats(0, 1e6), st.integers(0, 10**12))
    def test_a_rule_allows_its_share(self, percent, base) -> None:
        (rule,) = parse_rules(f"instructions:{percent!r}%")
        assert rule.allowed(base) == pytest.approx(base * percent / 100)


class TestExactMetrics:
    def test_one_instruction_more_is_a_regression_and_names_the_layer(self, make) -> None:
        base = make()
        steps = list(base.layers)
        steps[4] = replace(steps[4], instructions=steps[4].instructions + 1)
        head = replace(base, layers=tuple(steps), instructions=base.instructions + 1)
        finding = only(compare([head], [base], parse_rules("instructions:0")))
        assert (finding.status, finding.failed) == ("regressed", True)
        assert [change.name for change in finding.layers] == [f"4 {steps[4].name}"]
        assert steps[4].name in finding.message()

    def test_the_largest_growth_comes_first(self, make) -> None:
        head = slower(slower(make(), 2, 1.5), 5, 3.0)
        finding = only(compare([head], [make()], parse_rules("instructions:0")))
        assert [c.name.split()[0] for c in finding.layers] == ["5", "2"]

    def test_a_layer_is_found_again_under_a_new_name(self, make) -> None:
        head = slower(make(), 2, 1.5)
        renamed = tuple(replace(layer, name=f"fewer channels {i}") for i, layer in enumerate(head.layers))
        finding = only(compare([replace(head, layers=renamed)], [make()], parse_rules("instructions:0")))
        assert [(c.name, c.base is None) for c in finding.layers] == [("2 fewer channels 2", False)]

    def test_layers_of_one_name_are_told_apart(self, make) -> None:
        layers = tuple(replace(layer, name="conv") for layer in make().layers)
        head = slower(replace(make(), layers=layers), 4, 2.0)
        finding = only(compare([head], [make(layers=layers)], parse_rules("instructions:0")))
        assert [c.name for c in finding.layers] == ["4 conv"]

    def test_growth_within_the_rule_is_accepted(self, make) -> None:
        head = replace(make(), flash=make().flash + 1024)
        assert only(compare([head], [make()], parse_rules("flash:+1KiB"))).status == "ok"
        head = replace(make(), flash=make().flash + 1025)
        assert only(compare([head], [make()], parse_rules("flash:+1KiB"))).failed

    def test_less_is_an_improvement(self, make) -> None:
        head = slower(make(), 0, 0.5)
        finding = only(compare([head], [make()], parse_rules("instructions:0")))
        assert (finding.status, finding.failed) == ("improved", False)

    def test_more_ram_says_which_part_grew(self, make) -> None:
        ram = make().peak_ram
        grown = PeakRam(ram.total + 64, ram.static, ram.arena, ram.stack + 64, ram.planned_arena)
        finding = only(compare([make(peak_ram=grown)], [make()], parse_rules("peak_ram:0")))
        assert finding.failed
        assert "stack +64 B" in finding.message()

    def test_the_same_record_is_never_a_finding_that_fails(self, make) -> None:
        rules = parse_rules("cycles:0,instructions:0,peak_ram:0,flash:0")
        assert {f.status for f in compare([make()], [make()], rules)} == {"ok"}


class TestSampledMetrics:
    def test_two_runs_of_one_program_do_not_differ(self, make) -> None:
        board = make(mode="hardware", provenance={})
        failures = 0
        for seed in range(200):
            base, head = sampled(board, 100_000, 300, seed), sampled(board, 100_000, 300, seed + 1000)
            failures += only(compare([head], [base], parse_rules("cycles:0"))).failed
        assert failures <= 4

    def test_three_per_cent_above_a_noise_of_a_third_of_a_per_cent_is_found(self, make) -> None:
        board = make(mode="hardware")
        for seed in range(50):
            base, head = sampled(board, 100_000, 300, seed), sampled(board, 103_000, 300, seed + 1000)
            finding = only(compare([head], [base], parse_rules("cycles:0")))
            assert finding.failed
            assert "noise" in finding.message()

    def test_a_a_runs_teach_what_boot_to_boot_noise_is(self, make) -> None:
        board = make(mode="hardware", provenance={"build_id": "b1"}, samples=(100_000,) * 9, cycles=100_000)
        again = [replace(board, samples=(n,) * 9, cycles=n) for n in (99_400, 100_600)]
        other = replace(board, samples=(150_000,) * 9, provenance={"build_id": "b2"})
        head = replace(board, samples=(100_900,) * 9, cycles=100_900)
        assert only(compare([head], [board], parse_rules("cycles:0"))).failed
        finding = only(compare([head], [board], parse_rules("cycles:0"), noise=[*again, other]))
        assert (finding.status, finding.noise) == ("ok", 1200)

    def test_exact_samples_have_no_noise(self, make) -> None:
        assert noise_floor(make(), make()) == 0


class TestKinds:
    def test_cycles_on_an_emulator_are_the_estimated_ones(self, make) -> None:
        grown = Estimate(make().cycles_est.value * 1.05, 1, 2, "m7-2")
        finding = only(compare([make(cycles_est=grown)], [make()], parse_rules("cycles:2%")))
        assert (finding.metric, finding.failed) == ("cycles_est", True)

    def test_estimates_of_different_timing_models_are_refused_but_counts_are_compared(self, make) -> None:
        head = make(cycles_est=replace(make().cycles_est, model="m7-3"))
        cycles, count = compare([head], [make()], parse_rules("cycles:2%,instructions:0"))
        assert (cycles.status, count.status) == ("unlike", "ok")
        assert "timing model: m7-2 -> m7-3" in cycles.message()

    def test_measured_cycles_are_not_compared_with_estimated_ones(self, make) -> None:
        finding = only(compare([make(mode="hardware")], [make()], parse_rules("cycles:2%")))
        assert finding.status == "unlike"
        assert "mode: qemu -> hardware" in finding.message()

    def test_a_metric_that_neither_side_has_is_said(self, make) -> None:
        bare = make(cycles_est=None)
        finding = only(compare([bare], [bare], parse_rules("cycles:2%")))
        assert (finding.status, finding.failed) == ("absent", False)
        assert "instructions" in finding.message()

    def test_a_metric_that_got_lost_fails(self, make) -> None:
        assert only(compare([make(flash=None)], [make()], parse_rules("flash:0"))).status == "lost"


UNLIKE = [
    ("compiler", {"provenance": {"compiler": "gcc 13"}}),
    ("flags", {"provenance": {"flags": "-O0"}}),
    ("caches", {"provenance": {"caches": "-"}}),
    ("wait_states", {"provenance": {"wait_states": "3"}}),
    ("clock", {"clock_hz": 16_000_000}),
]


class TestUnlikeRows:
    @pytest.mark.parametrize(("what", "changes"), UNLIKE)
    def test_unlike_rows_are_refused_with_the_difference(self, make, what, changes) -> None:
        if "provenance" in changes:
            changes = {"provenance": {**make().provenance, **changes["provenance"]}}
        finding = only(compare([make(**changes)], [make()], parse_rules("instructions:0,flash:0")))
        assert (finding.status, finding.failed) == ("unlike", True)
        assert f"differs in {what}: " in finding.message()

    def test_a_condition_that_one_side_could_not_read_and_the_other_does_not_have_is_no_difference(
        self, make
    ) -> None:
        head = make(provenance={**make().provenance, "wait_states": "not readable"})
        assert only(compare([head], [make()], parse_rules("flash:0"))).status == "ok"

    def test_another_model_under_the_same_name_is_unlike(self, make) -> None:
        head = make(model="mlperf_kws")
        head = replace(head, model=replace(head.model, sha256="00"))
        assert only(compare([head], [make()], parse_rules("flash:0"))).status == "unlike"

    def test_by_request_they_are_compared_and_marked(self, make) -> None:
        head = make(clock_hz=16_000_000, flash=make().flash + 1)
        finding = only(compare([head], [make()], parse_rules("flash:0"), allow_unlike=True))
        assert (finding.status, finding.unlike) == ("regressed", True)
        assert "UNLIKE ROWS" in finding.message()

    def test_a_new_commit_or_engine_version_is_like_and_shown(self, make) -> None:
        head = make(provenance={**make().provenance, "git": "ffff"}, flash=make().flash + 1)
        finding = only(compare([head], [make()], parse_rules("flash:0")))
        assert finding.status == "regressed"
        assert "git: 1f0c2a9d -> ffff" in finding.message()


class TestMissingRows:
    def test_a_missing_baseline_is_said_and_does_not_fail(self, make) -> None:
        finding = only(compare([make()], [], parse_rules("flash:0")))
        assert (finding.status, finding.failed) == ("new", False)
        assert "no baseline" in finding.message()

    def test_a_record_that_is_gone_is_said(self, make) -> None:
        assert [f.status for f in compare([], [make()], parse_rules("flash:0"))] == ["gone"]

    def test_a_new_error_fails_with_its_message(self, make) -> None:
        head = make(error=Failure("DoesNotFit", "needs 400 KiB"))
        finding = only(compare([head], [make()], parse_rules("flash:0")))
        assert finding.failed
        assert "needs 400 KiB" in finding.message()

    def test_an_output_that_is_no_longer_exact_fails(self, make) -> None:
        head = make(correct=Correctness(False, 3, "tflite-micro", "00"))
        statuses = [f.status for f in compare([head], [make()], parse_rules("flash:0"))]
        assert statuses == ["incorrect", "ok"]

    def test_the_same_mode_is_preferred_as_baseline(self, make) -> None:
        base = [make(), make(mode="hardware")]
        findings = compare([make()], base, parse_rules("instructions:0"))
        assert [f.status for f in findings] == ["ok", "gone"]


class TestBudget:
    def test_sizes_and_latency_with_units(self, make) -> None:
        record = make(peak_ram=PeakRam(256 * 1024, 0, 0, 0))
        ram, wait = check_budget(record, {"peak_ram": "256KiB", "latency": "100ms"})
        assert (ram.kept, wait.kept, wait.kind) == (True, True, "estimated")
        assert not check_budget(record, {"peak_ram": 262143})[0].kept

    def test_latency_is_never_bare(self, make) -> None:
        (estimated,) = check_budget(make(), {"latency": "1us"})
        (measured,) = check_budget(make(mode="hardware"), {"latency": "1us"})
        assert estimated.message.startswith("estimated latency")
        assert measured.message.startswith("measured latency")
        assert not estimated.kept
        assert not measured.kept

    def test_a_budget_inside_the_interval_says_that_only_hardware_can_tell(self, make) -> None:
        record = make(cycles_est=Estimate(216_000, 200_000, 240_000, "m"))
        (verdict,) = check_budget(record, {"latency": "1.05ms"})
        assert verdict.kept
        assert "only hardware can tell" in verdict.message

    def test_counts_alone_do_not_judge_a_latency(self, make) -> None:
        (verdict,) = check_budget(make(cycles_est=None), {"latency": "1s"})
        assert verdict.kept is None

    @pytest.mark.parametrize(
        ("limits", "named"),
        [
            ({"latency": 100}, "without a unit"),
            ({"latency": "100"}, "duration"),
            ({"ram": "1KiB"}, "peak_ram"),
            ({"peak_ram": "1 potato"}, "potato"),
            ({"peak_ram": "-1"}, "-1"),
            ({"instructions": "many"}, "many"),
        ],
    )
    def test_a_wrong_budget_is_named(self, make, limits, named) -> None:
        with pytest.raises(UsageError, match=named):
            check_budget(make(), limits)
